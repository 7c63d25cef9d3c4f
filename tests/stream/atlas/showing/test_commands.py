"""What `pathcast atlas list` and `export` say where there is nothing, or no folder."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner, Result

from stream.atlas.cli import app


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def test_a_directory_without_versions_is_named_to_people_and_a_program_reads_json(tmp_path: Path) -> None:
    """It said nothing at all."""
    told = run("list", "--atlases", str(tmp_path))
    assert (told.exit_code, told.stdout) == (0, "")
    assert told.stderr == f"no atlases in {tmp_path}: `pathcast atlas run` writes a version there every hour\n"
    told = run("list", "--atlases", str(tmp_path), "--json")
    assert (told.stdout, told.stderr) == ("[]\n", "")


def test_an_export_into_a_folder_that_is_not_there_is_bad_usage(tmp_path: Path) -> None:
    """It named a temporary file of its own: No such file or directory: '/nowhere/.map.geojson-hu8qai2r'."""
    (tmp_path / "any.atlas").touch()
    told = run("export", str(tmp_path / "any.atlas"), "--out", str(tmp_path / "nowhere" / "map.geojson"))
    assert told.exit_code == 2
    assert "no such directory" in told.stderr
