# SPDX-License-Identifier: Apache-2.0
"""The Python side of tensorboard_test.cpp: reads with the real TensorBoard what C++ logged, and compares.

twin.py FOLDER
"""
import glob
import logging
import math
import pathlib
import sys

import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator as PluginAccumulator
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.util import tensor_util

logging.getLogger("tensorboard").setLevel(logging.ERROR)


def scalars(folder):
    """{tag: [(step, value), ...]}, by the class of TensorBoard's inspector; the server's must agree."""
    events = EventAccumulator(str(folder)).Reload()
    found = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    served = PluginAccumulator(str(folder)).Reload()
    for tag, values in found.items():
        of_tag = [(e.step, tensor_util.make_ndarray(e.tensor_proto).item()) for e in served.Tensors(tag)]
        assert str(of_tag) == str(values), (tag, of_tag, values)
    return found


def hparams(folder):
    content = PluginAccumulator(str(folder)).Reload().PluginTagToContent(metadata.PLUGIN_NAME)
    return (metadata.parse_experiment_plugin_data(content[metadata.EXPERIMENT_TAG]),
            metadata.parse_session_start_info_plugin_data(content[metadata.SESSION_START_INFO_TAG]),
            metadata.parse_session_end_info_plugin_data(content[metadata.SESSION_END_INFO_TAG]))


def check_run(folder):
    found = scalars(folder)
    assert set(found) == {"loss", "val/acc", "epoch", "потеря, %"}, found.keys()
    assert found["loss"] == [(step, 0.5 / (step + 1)) for step in (0, 1, 3, 7)], found["loss"]
    assert found["epoch"] == [(0, 0.0), (2**40, 1.0)]
    assert [step for step, _ in found["val/acc"]] == [7]
    assert math.isnan(found["val/acc"][0][1])
    assert str(found["потеря, %"]) == "[(7, -inf)]"


def check_hparams(folder):
    experiment, session, end = hparams(folder)
    assert end.status == api_pb2.STATUS_SUCCESS and end.end_time_secs >= session.start_time_secs > 1e9
    values = {name: getattr(value, value.WhichOneof("kind")) for name, value in session.hparams.items()}
    assert values == {"lr": 0.1, "layers": 3.0, "nesterov": True, "name": "a \"б\"\n",
                      "optimizer/betas": "(0.9, 0.999)", "optimizer/eps": 1e-05, "none": "None"}, values
    types = {info.name: info.type for info in experiment.hparam_infos}
    assert types["lr"] == api_pb2.DATA_TYPE_FLOAT64 and types["nesterov"] == api_pb2.DATA_TYPE_BOOL, types
    assert types["name"] == api_pb2.DATA_TYPE_STRING
    assert [info.name.tag for info in experiment.metric_infos] == ["hp_metric"]
    assert scalars(folder) == {"hp_metric": [(0, -1.0)]}
    with open(folder / "hparams.yaml") as file:
        loaded = yaml.safe_load(file)
    assert loaded == {"lr": 0.1, "layers": 3, "nesterov": True, "name": "a \"б\"\n",
                      "optimizer": {"betas": [0.9, 0.999], "eps": 1e-05}, "none": None}, loaded


def check_yaml(folder):
    with open(folder / "hparams.yaml") as file:
        loaded = yaml.safe_load(file)
    words = ["null", "true", "no", "~", "1", "1.5", "-", "", " x", "x ", "a: b", "a #b", "[1]", "%", "@", "plain", "y",
             "0x10", "1e5", ".inf", "é", "tab\t", "back\\slash", "'", "2001-01-01", "- a", "<<", "="]
    assert loaded["words"] == words, loaded["words"]
    assert loaded["numbers"] == [1, -1, 2**70, 1e16, -1e-07, 0.0, math.inf, -math.inf], loaded["numbers"]
    assert loaded["nested"] == {"empty": {}, "none": [], "lists": [[1, 2], [{"a": 1, "b": [2]}]], 3: "three"}, loaded


def check_torn(folder):
    """Of the file that was cut short all that is whole is read, and so are those beside it."""
    found = scalars(folder)
    assert found["loss"] == [(step, float(step)) for step in (*range(8), 9)], found


def main(folder):
    check_run(folder / "run" / "version_0")
    check_hparams(folder / "hparams" / "first")
    check_yaml(folder / "yaml" / "version_0")
    for torn in glob.glob(str(folder / "torn" / "*")):
        check_torn(pathlib.Path(torn))
    # Begun anew at step 4: what was there from 4 on was undone, whatever the file.
    assert scalars(folder / "resumed" / "r") == {"loss": [(1, 1.0), (2, 2.0), (3, 3.0), (4, 40.0), (5, 50.0)]}
    # Two runs that write to one folder at once.
    assert scalars(folder / "both" / "r") == {"a": [(step, float(step)) for step in range(5)],
                                              "b": [(0, float(value)) for value in range(5)]}
    fit = scalars(folder / "fit" / "version_0")
    assert set(fit) == {"epoch", "loss_step", "loss_epoch", "val_loss"}, fit.keys()
    assert [step for step, _ in fit["loss_step"]] == [1, 3, 5, 7, 9, 11], fit["loss_step"]
    assert [step for step, _ in fit["loss_epoch"]] == [step for step, _ in fit["val_loss"]] == [5, 11], fit
    assert all(math.isfinite(value) for values in fit.values() for _, value in values), fit


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
