"""What the user asked for: settings, model spec files and the reference implementation's config file."""
