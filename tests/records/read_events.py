#!/usr/bin/env python3
"""Prints the scalars of a log folder as TensorBoard itself reads them: {tag: [[step, value], …]}.

usage: read_events.py FOLDER (needs the package tensorboard)
"""

import json
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0})
events.Reload()
scalars = {tag: [[scalar.step, scalar.value] for scalar in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
json.dump(scalars, sys.stdout)
