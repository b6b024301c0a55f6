# Fit simulated voxels with lme4, or with lmerTest (T and F tests).
# Rscript lmer.R MODE FORMULA DESIGN.csv VALUES.f64 N_VOXELS OUT.csv
# MODE is "refit" or "test". VALUES holds doubles, a voxel after the other. OUT has a row a voxel:
# seconds, loglik, and in test mode p and df of time, group, (time, state) and (group, age).
suppressPackageStartupMessages(library(lme4))
arguments <- commandArgs(TRUE)
mode <- arguments[1]
model <- as.formula(arguments[2])
design <- read.csv(arguments[3], stringsAsFactors = TRUE)
n_voxels <- as.integer(arguments[5])
values <- matrix(readBin(arguments[4], "double", n_voxels * nrow(design)), ncol = n_voxels)
control <- lmerControl(calc.derivs = FALSE)
cpu_seconds <- function(before) sum((proc.time() - before)[1:2])

# The modular steps of lmer with the formula parsed once. refit() of lme4 1.1-31 would do, but evaluates the
# REML criterion of a refitted model as if X had one column.
refit_voxel <- local({
  parsed <- lFormula(update(model, y ~ .), cbind(design, y = values[, 1]), REML = TRUE, control = control)
  # A copy: the optimiser moves the original in place, and would start where the last voxel ended.
  start <- parsed$reTrms$theta + 0
  function(y) {
    before <- proc.time()
    parsed$fr[["y"]] <- y
    objective <- do.call(mkLmerDevfun, c(parsed, list(control = control)))
    optimum <- optimizeLmer(objective, start = start, calc.derivs = FALSE)
    fit <- mkMerMod(environment(objective), optimum, parsed$reTrms, fr = parsed$fr)
    c(cpu_seconds(before), as.numeric(logLik(fit)))
  }
})

test_voxel <- function(y) {
  before <- proc.time()
  fit <- lmerTest::lmer(model, cbind(design, y = y), control = control)
  names <- names(fixef(fit))
  rows <- function(...) diag(length(names))[match(c(...), names), , drop = FALSE]
  tests <- unlist(lapply(list(rows("time"), rows("group"), rows("time", "state"), rows("group", "age")), function(L) {
    test <- lmerTest::contest(fit, L, joint = TRUE)
    c(test[["Pr(>F)"]], test[["DenDF"]])
  }))
  c(cpu_seconds(before), as.numeric(logLik(fit)), tests)
}

one <- if (mode == "refit") refit_voxel else test_voxel
out <- suppressMessages(suppressWarnings(t(apply(values, 2, one))))
write.table(format(out, digits = 17), arguments[6], sep = ",", row.names = FALSE, col.names = FALSE, quote = FALSE)
