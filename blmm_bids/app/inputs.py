"""Which images each node of the spec reads, and the groups that they are fitted in."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from blmm_bids.app.input_contrasts import name_input_contrasts
from blmm_bids.app.summary import show_without_images
from blmm_bids.bids.dataset import (
    MapSource,
    Observations,
    find_observations,
    group_observations,
    scan_dataset,
)
from blmm_bids.bids.levels import matches_label
from blmm_bids.bids.names import long_name
from blmm_bids.config.settings import Settings
from blmm_bids.design.columns import did_you_mean, enumerate_names
from blmm_bids.design.spec import NodeSpec
from blmm_bids.design.wildcards import expand_wildcards
from blmm_bids.errors import ModelSpecError, NoMatchError

LOGGER = logging.getLogger(__name__)
Group = Mapping[str, str]


def plan_fits(settings: Settings) -> list[tuple[NodeSpec, Group, Observations]]:
    """Find the images of every node and group; the dataset is listed once.

    Raises
    ------
    BlmmError
        What `find_observations` and `group_observations` raise, and filters or names that fit no image.
    """
    dataset = scan_dataset(settings.dataset)
    planned: list[tuple[NodeSpec, Group, Observations]] = []
    found: list[tuple[NodeSpec, Observations]] = []
    said: set[str] = set()
    for node in settings.nodes:
        images = next((each for other, each in found if _read_alike(node, other)), None)
        if images is None:
            images = find_observations(
                dataset, settings.selection(_sources(node)), node.group_by, node.mask_filter
            )
            if not found:
                show_without_images(images.without_images)
            found.append((node, images))
        own, observations = _resolve(node, images)
        # Before the groups, which may be refused.
        _say(observations.warnings, said)
        groups = group_observations(observations, own.group_by)
        _say([warning for _, each in groups for warning in each.warnings], said)
        planned += [(own, group, each) for group, each in groups]
    return planned


def _say(warnings: Iterable[str], said: set[str]) -> None:
    """Log what no earlier node or group gave."""
    for warning in warnings:
        if warning not in said:
            said.add(warning)
            LOGGER.warning("%s", warning)


def _read_alike(one: NodeSpec, other: NodeSpec) -> bool:
    """Whether two nodes read the same images, with the same masks, in the same groups."""
    return (one.group_by, one.edges, one.mask_filter) == (other.group_by, other.edges, other.mask_filter)


def _resolve(node: NodeSpec, observations: Observations) -> tuple[NodeSpec, Observations]:
    """Apply what a node says of its images beside Input: edges' filters, wildcards, input contrasts."""
    filtered = _apply_edges(node, observations)
    expanded, expansions = expand_wildcards(node, filtered.table, filtered.ambiguous)
    filtered = replace(filtered, warnings=(*filtered.warnings, *expansions))
    return name_input_contrasts(expanded, filtered)


def _sources(node: NodeSpec) -> tuple[MapSource, ...]:
    return tuple(
        MapSource(edge.source.name, frozenset(map(long_name, edge.source.group_by)), edge.filter)
        for edge in node.edges
        if edge.source is not None
    )


def _apply_edges(node: NodeSpec, observations: Observations) -> Observations:
    """Apply what the edges' filters say of the tables' columns, or of entities beside them."""
    if not any(edge.filter for edge in node.edges):
        return observations
    kept = np.zeros(len(observations), dtype=bool)
    for edge in node.edges:
        passes = np.ones(len(observations), dtype=bool)
        for key, labels in edge.filter.items():
            passes &= _passes(node, observations, key, labels)
        kept |= passes
    if not kept.any():
        told = " or ".join(
            ", ".join(f"{key} {' or '.join(labels)}" for key, labels in edge.filter.items())
            for edge in node.edges
        )
        msg = f"the Filter of the edge to node '{node.name}' ({told}) leaves none of {len(kept)} images"
        raise NoMatchError(msg)
    return observations.take([int(row) for row in np.flatnonzero(kept)])


def _passes(node: NodeSpec, observations: Observations, key: str, labels: Sequence[str]) -> np.ndarray:
    name = long_name(key)
    if name not in observations.table.columns:
        name = observations.column_of(key) or ""
    if not name:
        known = [str(column) for column in observations.table.columns]
        msg = (
            f"model spec: the Filter of the edge to node '{node.name}' names '{key}', which is no entity of "
            f"the images and no column of the tables (there is {enumerate_names(known)})"
        )
        raise ModelSpecError(msg + did_you_mean(key, known))
    values = observations.labels(name)
    return np.array([matches_label(name, value, labels) for value in values], dtype=bool)
