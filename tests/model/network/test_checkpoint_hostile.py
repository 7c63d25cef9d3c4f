"""Weights as an enemy, or an accident, would leave them: refused in one line that says why, before memory is taken."""

from __future__ import annotations

import json
import os
import resource
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from model.api import Predictor, WeightsError
from model.config import MAX_FIELD, MOST, ModelConfig
from model.network.checkpoint import save_pretrained
from model.network.network import Network
from model.parameters.reading import CONFIG_FILE, MAX_CONFIG_BYTES, MAX_HEADER_BYTES, WEIGHTS_FILE
from model.serving import state_codec
from stream.commands.main import main

TINY = ModelConfig(name="tiny", d=16, blocks=1, heads=2, window=8)
SPARE_BYTES = 256 << 20  # what a refusal may take beside the libraries; the claims below are of gigabytes and more
Spoil = Callable[[Path], object]


@pytest.fixture
def saved(tmp_path: Path, unsettled: Callable[..., Network]) -> Path:
    save_pretrained(unsettled(TINY), tmp_path / "tiny", "# card\n")
    return tmp_path / "tiny"


def refusal(directory: Path) -> str:
    """What `Predictor.load` says, held to a little more memory than there is in use."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + SPARE_BYTES, hard))
    try:
        with pytest.raises(WeightsError) as caught:
            Predictor.load(directory)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    text = str(caught.value)
    assert "\n" not in text
    assert text.isprintable()
    assert len(text) - len(str(directory)) < 400
    return text


def with_config(**changes: object) -> Spoil:
    def spoil(directory: Path) -> None:
        path = directory / CONFIG_FILE
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return spoil


def config_of(raw: bytes) -> Spoil:
    return lambda directory: (directory / CONFIG_FILE).write_bytes(raw)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (with_config(d=10**9), "d must be at most 8,192"),
        (with_config(d=2 * 10**9, heads=10**9), "d must be at most"),
        (with_config(blocks=10**6), "blocks must be at most 256"),
        (with_config(window=10**9), "window must be at most"),
        (with_config(mlp_ratio=10**6), "mlp_ratio must be at most"),
        (with_config(patch=10**9), "patch must be at most"),
        (with_config(cells=5), "cells must be 0, got 5: only `pathcast train experiment regions`"),
        (with_config(places=10**9), "places must be in"),
        (with_config(d=10**4000), "d has more digits than any size"),
        (with_config(damping_s=10**400), "damping_s has more digits"),
        (with_config(damping_s=float("nan")), "damping_s must be positive"),
        (with_config(accel_psd=float("inf")), "accel_psd must be positive"),
        (with_config(origin_lat_deg=float("nan")), "on the globe"),
        (with_config(origin_lon_deg=1e300), "on the globe"),
        (with_config(name="x" * 60_000), "name must be 1 to 64"),
        (with_config(name="a\nb"), "name must be 1 to 64"),
        (with_config(name="\x1b[2J"), "name must be 1 to 64"),
        (with_config(name="\ud800"), "name must be 1 to 64"),
        (with_config(name=""), "name must be 1 to 64"),
        (with_config(d=True), "d must be int"),
        (with_config(d=16.0), "d must be int"),
        (with_config(d="16"), "d must be int"),
        (with_config(d=float("inf")), "d must be int"),
        (with_config(d=17), "d=17 must split into 2 heads"),
        (with_config(heads=0), "must split into 0 heads"),
        (with_config(kv_heads=2), "kv_heads must be 1, got 2: all heads share one key"),
        (with_config(window=-1), "window must be at least 1"),
        (with_config(damping_s=0.0), "damping_s must be positive"),
        (with_config(region_m=0.0), "region_m must be positive"),
        (with_config(positions="alphabetical"), "positions must be one of"),
        (with_config(target="relative"), "target must be one of"),
        (with_config(places=-1), "places must be in"),
        (with_config(patch=0), "patch must be at least 1"),
        (with_config(d=None), "d must be int"),
        (with_config(positions=["x" * 300] * 90), "positions must be str"),
        (with_config(stranger=1), "a model config has the fields"),
        (config_of(b'{"d":' * 9_000 + b"1" + b"}" * 9_000), "nests deeper"),
        (config_of(b"[" * 60_000), "nests deeper"),
        (config_of(b'{"d": ' + b"1" * 60_000 + b"}"), "Exceeds the limit"),
        (config_of(b" " * (MAX_CONFIG_BYTES + 1)), "larger than"),
        (config_of(b"\xff\xfe{}"), "utf-8"),
        (config_of(b"\x00"), "Expecting value"),
        (config_of(b""), "Expecting value"),
        (config_of(b"{"), "Expecting property name"),
        (config_of(b"[]"), "a model config has the fields"),
    ],
)
def test_a_config_that_no_model_has_is_refused_by_itself(saved: Path, spoil: Spoil, said: str) -> None:
    spoil(saved)
    (saved / WEIGHTS_FILE).unlink()  # nothing of the weights is needed to say so
    assert said in refusal(saved)


@pytest.mark.parametrize("changes", [{"d": 8_192, "heads": 64, "blocks": 256, "mlp_ratio": 64}, {"places": 10**7}])
def test_a_config_of_gigabytes_is_refused_by_what_the_weights_hold(saved: Path, changes: dict[str, int]) -> None:
    """Within every bound, and many times the memory that there is: nothing is built that the file cannot fill."""
    with_config(**changes)(saved)
    assert "the config needs at least" in refusal(saved)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"window": MOST["window"], "blocks": 2}, "it looks back 32,767 pings"),
        ({"window": 8_000, "blocks": 2, "heads": 1}, "a state has"),
    ],
)
def test_a_model_whose_entities_would_take_megabytes_is_not_served(
    tmp_path: Path, unsettled: Callable[..., Network], changes: dict[str, int], said: str
) -> None:
    """The window is in no tensor: two tiny blocks would fit, and then take a megabyte for every entity."""
    save_pretrained(unsettled(replace(TINY, **changes)), tmp_path, "card")  # type: ignore[arg-type]
    for precision in state_codec.VERSIONS:
        if said == "a state has" and precision == "int8":
            continue  # a quarter of the bytes: it may be
        with pytest.raises(WeightsError, match=said):
            Predictor.load(tmp_path, precision=precision)
    assert MAX_FIELD > 1 + 2 * (8_000 - 1)


FILLED = 32_000  # bytes behind a header, so that the size alone is not what is wrong


def header_of(length: int, text: bytes) -> Spoil:
    return lambda directory: (directory / WEIGHTS_FILE).write_bytes(struct.pack("<Q", length) + text + bytes(FILLED))


def headed(header: object) -> Spoil:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return header_of(len(text), text)


def tensor(shape: list[int], start: int = 0, end: int = FILLED, dtype: str = "U8") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def with_tensors(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Spoil:
    def spoil(directory: Path) -> None:
        path = directory / WEIGHTS_FILE
        path.write_bytes(safetensors.torch.save(change(safetensors.torch.load(path.read_bytes()))))

    return spoil


def spoilt(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Spoil:
    return with_tensors(lambda tensors: {**tensors, name: change(tensors[name]).contiguous()})


def poked(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda tensor: tensor.flatten().index_fill(0, torch.tensor([3]), value).view(tensor.shape)


ONE = "trunk.embed.weight"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (header_of(0, b""), "cannot be read"),
        (header_of(2**40, b"{}"), f"at most {MAX_HEADER_BYTES:,}"),
        (header_of(2**64 - 1, b"{}"), f"at most {MAX_HEADER_BYTES:,}"),
        (header_of(MAX_HEADER_BYTES, b"{}"), "cannot be read"),
        (headed(b"[" * 2_000), "cannot be read"),
        (headed(b'{"a":' * 2_000 + b"1" + b"}" * 2_000), "cannot be read"),
        (headed(b"\xff" * 50), "cannot be read"),
        (headed({}), "cannot be read"),
        (headed({ONE: tensor([2**32, 2**32, 2**32], end=2**62, dtype="F32")}), "cannot be read"),
        (headed({ONE: tensor([2**62], dtype="F32")}), "cannot be read"),
        (headed({ONE: tensor([1], 4, 0)}), "cannot be read"),
        (headed({ONE: tensor([1], -4, 0)}), "cannot be read"),
        (headed({ONE: tensor([-1])}), "cannot be read"),
        (headed({ONE: tensor([FILLED + 1], end=FILLED + 1)}), "cannot be read"),
        (headed({ONE: tensor([FILLED]), "overlapping": tensor([FILLED])}), "cannot be read"),
        (headed({ONE: tensor([FILLED], dtype="F99")}), "cannot be read"),
        (headed({ONE: tensor([FILLED])} | {f"t{n}": tensor([0], FILLED) for n in range(200)}), "do not fit"),
        (lambda directory: os.truncate(directory / WEIGHTS_FILE, 0), "cut short"),
        (lambda directory: os.truncate(directory / WEIGHTS_FILE, 5), "cut short"),
        (lambda directory: os.truncate(directory / WEIGHTS_FILE, 30_000), "cannot be read"),
        (lambda directory: os.truncate(directory / WEIGHTS_FILE, 900 << 20), "larger than"),  # sparse
        (with_tensors(lambda tensors: {**tensors, "stranger": torch.zeros(1)}), "do not fit the config, e.g. stranger"),
        (with_tensors(lambda tensors: {k: v for k, v in tensors.items() if k != ONE}), f"e.g. {ONE}"),
        (with_config(mlp_ratio=2), "config needs"),
        (spoilt(ONE, lambda tensor: tensor.T), "config needs"),
        (spoilt(ONE, lambda tensor: tensor[:, :3]), "config needs"),
        (spoilt(ONE, lambda tensor: tensor.flatten()), "config needs"),
        (spoilt(ONE, lambda tensor: tensor.to(torch.bfloat16)), "type BF16"),
        (spoilt(ONE, lambda tensor: tensor.to(torch.float8_e4m3fn)), "type F8"),
        (spoilt(ONE, lambda tensor: tensor.to(torch.bool)), "type bool"),
        (spoilt(ONE, lambda tensor: tensor.to(torch.int32)), "type int32"),
        (spoilt(ONE, poked(float("nan"))), "not finite"),
        (spoilt(ONE, poked(float("-inf"))), "not finite"),
        (spoilt("calibration.forecast", poked(float("inf"))), "not finite"),
    ],
)
def test_weights_that_are_not_those_of_the_config_are_refused(saved: Path, spoil: Spoil, said: str) -> None:
    spoil(saved)
    assert said in refusal(saved)


def replaced(name: str, by: Callable[[Path], object]) -> Spoil:
    def spoil(directory: Path) -> None:
        (directory / name).unlink()
        by(directory / name)

    return spoil


@pytest.mark.parametrize("name", [CONFIG_FILE, WEIGHTS_FILE])
@pytest.mark.parametrize(
    "by",
    [
        lambda path: None,
        lambda path: path.mkdir(),
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to("/no/such/file"),
        lambda path: path.symlink_to(path.name),
        os.mkfifo,
    ],
    ids=["nothing", "a directory", "a device", "a dangling link", "a link to itself", "a pipe"],
)
def test_what_is_no_file_is_refused_and_not_waited_for(saved: Path, name: str, by: Callable[[Path], object]) -> None:
    replaced(name, by)(saved)
    said = refusal(saved)
    assert "no weights at" in said if name == CONFIG_FILE else "file" in said


def test_a_link_to_a_file_is_as_good_as_the_file(saved: Path) -> None:
    """Caches of downloads are made of them."""
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        (saved / name).rename(saved / f"{name}.blob")
        (saved / name).symlink_to(saved / f"{name}.blob")
    assert Predictor.load(saved, capacity=1).name == "tiny"


def test_the_command_line_says_it_in_one_line_and_exits_with_1(
    saved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    header_of(2**40, b"{}")(saved)
    pings = saved / "pings.ndjson"
    pings.write_text('{"entity_id":"a","ts":1700000000000,"lat":1,"lon":2}\n')
    monkeypatch.setattr("sys.argv", ["pathcast", "replay", str(pings), "--out", "-", "--weights", str(saved)])
    with pytest.raises(SystemExit) as caught:
        main()
    said = capsys.readouterr()
    assert (caught.value.code, said.out) == (1, "")
    assert said.err.startswith(f"error: {saved / WEIGHTS_FILE}: cannot be read as safetensors: a header of 1,099,5")
    assert said.err.count("\n") == 1
