"""The manifest says of a bundle what is in it, in the form its schema describes, and damage is found by it."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.aot.gluon_samples import sample_package
from texpr.aot.bundle import BuildOptions, write_bundle
from texpr.aot.cache import Cache
from texpr.aot.cubin import CompileOptions
from texpr.aot.errors import BundleDamagedError
from texpr.aot.manifest import SCHEMA_FILE, canonical_json, load_manifest, verify_bundle
from texpr.runtime.errors import ManifestError, NotABundleError
from texpr.runtime.manifest import read_manifest

pytest.importorskip("triton")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = BuildOptions(compile=CompileOptions(cache=Cache(tmp_path_factory.mktemp("cache"))))
    return write_bundle(sample_package(), tmp_path_factory.mktemp("bundles") / "sample", options).folder


@pytest.fixture
def bundle(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "bundle"))


def test_manifest_follows_its_schema(built: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(SCHEMA_FILE.read_text())
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    validator.validate(load_manifest(built))


def test_schema_refuses_other_forms(built: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA_FILE.read_text()))
    for change in (
        lambda m: m.pop("name"),
        lambda m: m.update(extra=1),
        lambda m: m["functions"][0]["arguments"][0].pop("shape"),
        lambda m: m["functions"][0]["variants"].clear(),
        lambda m: m["kernels"][0]["images"][0].update(sha256="short"),
        lambda m: m["kernels"][0]["images"][0].update(registers=-1),
    ):
        manifest = load_manifest(built)
        change(manifest)
        assert not validator.is_valid(manifest)


def test_manifest_text_is_canonical(built: Path) -> None:
    text = (built / "manifest.json").read_text()
    assert canonical_json(json.loads(text)) == text
    assert text.isascii()


def test_every_other_file_is_listed_with_its_digest(built: Path) -> None:
    listed = load_manifest(built)["files"]
    present = {path.relative_to(built).as_posix() for path in built.rglob("*") if path.is_file()}
    assert set(listed) == present - {"manifest.json"}
    assert all(hashlib.sha256((built / path).read_bytes()).hexdigest() == digest for path, digest in listed.items())


def test_functions_are_described_as_declared(built: Path) -> None:
    copy, softmax = load_manifest(built)["functions"]
    assert (copy["symbol"], copy["types"], copy["statics"]) == ("sample_copy", {"T": "f32"}, {"R": 3})
    x, steps, y = copy["arguments"]
    assert (x["kind"], x["shape"], x["low"], x["high"]) == ("tensor", ["N"], "-1", "N")
    assert (steps["kind"], steps["dtype"], steps["low"]) == ("scalar", "i32", "0")
    assert (y["output"], y["may_alias"], y["strides"]) == (True, "x", [{"dim": 0, "name": "y_stride_0"}])
    assert copy["derived"] == [{"name": "H", "value": "N//2"}]
    wide, general = copy["variants"]
    assert wide["guard"] == "aligned(x, 16)"
    assert (wide["flops"], wide["bytes_moved"]) == ("0", None)
    assert general["workspace"][0]["name"] == "part"
    assert [field["role"] for field in copy["args_struct"]] == ["tensor", "scalar", "tensor", "dim", "stride"]
    assert softmax["dims"] == ["M", "N"]


def test_images_carry_facts_and_start_unchecked(built: Path) -> None:
    manifest = load_manifest(built)
    assert manifest["targets"] == ["sm_80", "sm_90a"]
    images = [image for kernel in manifest["kernels"] for image in kernel["images"]]
    assert len(images) == 3
    for image in images:
        cubin = (built / image["cubin"]).read_bytes()
        assert hashlib.sha256(cubin).hexdigest() == image["sha256"]
        assert image["threads"] == 128
        assert image["registers"] > 0
        assert image["checked"] is False
        assert image["minimum_driver"] == {"sm_80": 12000, "sm_90a": 13000}[image["target"]]
        assert (built / image["ptx"]).is_file()
        assert (built / image["lines"]).is_file()
    assert manifest["tools"]["triton"].startswith("3.9")
    assert set(manifest["tools"]["ptxas"]) == {"sm_80", "sm_90a"}
    assert manifest["tools"]["fp_fusion"] is True


def test_runtime_reads_what_was_written(built: Path) -> None:
    manifest = read_manifest(built)
    assert [entry.symbol for entry in manifest.entries] == ["sample_copy", "sample_softmax"]
    assert manifest.targets() == ("sm_80", "sm_90a")


def test_intact_bundle_verifies(bundle: Path) -> None:
    assert verify_bundle(bundle)["name"] == "sample"


def test_changed_missing_and_added_files_are_found(bundle: Path) -> None:
    header = bundle / "sample.h"
    original = header.read_bytes()
    header.write_bytes(original + b"\n")
    with pytest.raises(BundleDamagedError, match=r"sample\.h is not the file"):
        verify_bundle(bundle)
    header.unlink()
    with pytest.raises(BundleDamagedError, match=r"sample\.h is missing"):
        verify_bundle(bundle)
    header.write_bytes(original)
    (bundle / "notes").write_text("")
    with pytest.raises(BundleDamagedError, match="notes is not listed"):
        verify_bundle(bundle)


def rewrite(bundle: Path, change: Any) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    change(manifest)
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def test_resources_that_are_not_those_of_the_cubin_are_found(bundle: Path) -> None:
    rewrite(bundle, lambda manifest: manifest["kernels"][0]["images"][0].update(registers=1))
    with pytest.raises(BundleDamagedError, match="other resources"):
        verify_bundle(bundle)


def test_other_versions_and_other_folders_are_refused(bundle: Path, tmp_path: Path) -> None:
    rewrite(bundle, lambda manifest: manifest.update(texpr_manifest=99))
    with pytest.raises(ManifestError, match="99"):
        load_manifest(bundle)
    with pytest.raises(NotABundleError):
        load_manifest(tmp_path)
