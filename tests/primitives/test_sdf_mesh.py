"""Mesh files: kinds, units, what is mended and told, and one sentence for what cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import trimesh

from ngp_method.errors import UserError
from ngp_method.primitives.sdf.mesh import load_mesh, make_mesh
from ngp_method.primitives.sdf.topology import edge_pairs, orient
from support.shapes import SHAPES

BALL = trimesh.creation.icosphere(subdivisions=2)
CLOSED = "sign: angle-weighted pseudonormals, as the surface is closed"


@pytest.mark.parametrize("ending", ["obj", "ply", "stl", "glb", "off", "OBJ"])
def test_kinds(ending: str, tmp_path: Path) -> None:
    """An STL is a soup, whose surface is closed only once vertices of the same position are one."""
    file = tmp_path / f"ball.{ending}"
    BALL.export(file, file_type=ending.lower())
    mesh = load_mesh(file)
    assert (mesh.vertices.dtype, mesh.faces.dtype) == (np.float64, np.int32)
    assert (len(mesh.vertices), len(mesh.faces)) == (len(BALL.vertices), len(BALL.faces))
    assert (mesh.watertight, mesh.sign, mesh.notes) == (True, "pseudonormal", (CLOSED,))
    own = trimesh.Trimesh(mesh.points_to_world(mesh.vertices), mesh.faces, process=False)
    assert own.volume == pytest.approx(BALL.volume, rel=1e-6)  # float32 in STL and GLB


def test_gltf_with_its_parts_beside_it(tmp_path: Path) -> None:
    for name, data in trimesh.exchange.gltf.export_gltf(trimesh.Scene(BALL)).items():
        (tmp_path / name).write_bytes(data)
    assert load_mesh(tmp_path / "model.gltf").watertight


def test_scenes_are_joined_where_they_are_placed(tmp_path: Path) -> None:
    """Two nodes of one box, one of them mirrored, which turns its faces round: both look outwards in the result."""
    scene, box = trimesh.Scene(), trimesh.creation.box()
    moved, mirrored = np.eye(4), np.diag([-2.0, 1.0, 1.0, 1.0])
    moved[0, 3], mirrored[1, 3] = 3.0, 2.0
    scene.add_geometry(box, transform=moved)
    scene.add_geometry(box, transform=mirrored)
    scene.export(tmp_path / "two.glb")
    mesh = load_mesh(tmp_path / "two.glb")
    world = mesh.points_to_world(mesh.vertices)
    np.testing.assert_allclose([world.min(0), world.max(0)], [[-1, -0.5, -0.5], [3.5, 2.5, 0.5]], atol=1e-7)
    assert trimesh.Trimesh(world, mesh.faces, process=False).volume == pytest.approx(3.0)
    assert mesh.notes == (CLOSED,)


def test_the_place_in_the_cube_is_instant_ngps() -> None:
    """The box, larger by half a percent of its diagonal on each side, has its longest side from 0 to 1, in the middle."""
    box = trimesh.creation.box((1.0, 2.0, 4.0))
    mesh = make_mesh(np.add(box.vertices, [7.0, -3.0, 100.0]), box.faces)
    side = 4.0 + 2 * 0.005 * 21**0.5
    assert mesh.scale == pytest.approx(1 / side, rel=1e-14)
    np.testing.assert_allclose(mesh.vertices.max(0), 0.5 + np.array([0.5, 1.0, 2.0]) / side, rtol=1e-14)
    np.testing.assert_allclose(mesh.vertices.min(0) + mesh.vertices.max(0), 1.0, rtol=1e-14)


@pytest.mark.parametrize(("factor", "shift"), [(1000.0, 0.0), (1e-6, 0.0), (1.0, 5e6), (1e-30, 0.0), (1e30, 0.0)])
def test_units_and_map_coordinates_lose_nothing(factor: float, shift: float) -> None:
    moved = BALL.vertices * factor + shift
    mesh, plain = make_mesh(moved, BALL.faces), make_mesh(BALL.vertices, BALL.faces)
    assert mesh.watertight
    lost = np.finfo(np.float64).eps * max(1.0, shift / factor)  # of the coordinates themselves
    order, plain_order = (np.lexsort(np.round(m.vertices, 6).T) for m in (mesh, plain))
    np.testing.assert_allclose(mesh.vertices[order], plain.vertices[plain_order], atol=4 * lost)
    back = mesh.points_to_world(mesh.vertices)
    np.testing.assert_allclose(mesh.points_to_unit(back), mesh.vertices, atol=4 * lost)
    homogeneous = np.c_[mesh.vertices, np.ones(len(mesh.vertices))] @ mesh.to_world.T
    np.testing.assert_allclose(homogeneous[:, :3], back, rtol=1e-12)
    assert mesh.length_to_world(mesh.scale) == pytest.approx(1.0)


def test_flat_meshes_and_one_triangle() -> None:
    for name in ("plane", "triangle"):
        shape = SHAPES[name]()
        mesh = make_mesh(shape.vertices, shape.faces)
        assert (mesh.sign, mesh.watertight) == ("winding", False)
        assert np.ptp(mesh.vertices, axis=0).max() < 1.0
        assert (mesh.vertices > 0).all()


def test_what_has_no_area_is_dropped_and_told() -> None:
    """A repeated corner, three corners in a line, and a face that is there twice, once the other way round."""
    more = [[0, 0, 1], BALL.faces[5], BALL.faces[6][::-1], [len(BALL.vertices)] * 3]
    vertices = np.vstack([BALL.vertices, [[9.0, 9.0, 9.0]]])
    mesh = make_mesh(vertices, np.vstack([BALL.faces, more]))
    assert mesh.notes == ("2 faces without an area dropped", "2 faces dropped that were there twice", CLOSED)
    line = make_mesh([[0, 0, 0], [1, 0, 0], [2, 0, 0], [0, 1, 0]], [[0, 1, 2], [0, 1, 3]])
    assert len(line.faces) == 1


def test_faces_that_look_inwards_are_turned_and_told() -> None:
    mesh = make_mesh(BALL.vertices, BALL.faces[:, ::-1])
    assert mesh.notes == ("all faces looked inwards; they were turned round", CLOSED)
    assert trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).volume > 0


def test_some_faces_that_look_inwards_are_turned_and_told() -> None:
    faces = BALL.faces.copy()
    faces[::9] = faces[::9, ::-1]
    mesh = make_mesh(BALL.vertices, faces)
    assert mesh.notes == (f"{len(faces[::9])} faces turned round to agree with their neighbours", CLOSED)
    assert trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).volume * mesh.length_to_world(1.0) ** 3 == pytest.approx(
        BALL.volume
    )


def test_a_surface_with_one_side_only_goes_by_the_winding_number() -> None:
    """A Moebius band of twelve triangles: turning faces never makes all neighbours agree."""
    n = 6
    faces = []
    for i in range(n):
        a, b, c, d = 2 * i, 2 * i + 1, (2 * i + 2) % (2 * n), (2 * i + 3) % (2 * n)
        if i == n - 1:
            c, d = d, c
        faces += [[a, b, c], [b, d, c]]
    array = np.array(faces)
    pairs = edge_pairs(array, 2 * n)
    assert not pairs.consistent
    pieces, agree = orient(array, pairs.opposite, np.zeros(len(array), bool), np.zeros(len(array), np.int32))
    assert (pieces, agree) == (1, False)
    angle = np.repeat(np.arange(n) * 2 * np.pi / n, 2)
    up = np.tile([1, -1], n) * np.cos(angle / 2)
    vertices = np.stack([np.cos(angle), np.sin(angle), 0.2 * up], 1) + 0.1 * np.random.default_rng(0).random((2 * n, 3))
    mesh = make_mesh(vertices, array)
    assert mesh.sign == "winding"
    assert "one side only" in mesh.notes[0]


def test_the_sign_can_be_asked_for() -> None:
    assert make_mesh(BALL.vertices, BALL.faces, "winding").sign == "winding"
    hemisphere = SHAPES["hemisphere"]()
    mesh = make_mesh(hemisphere.vertices, hemisphere.faces, "pseudonormal")
    assert (mesh.sign, mesh.watertight) == ("pseudonormal", False)
    assert mesh.notes[-1].startswith("sign: pseudonormal (asked for; the surface is open (")
    with pytest.raises(ValueError, match="choose one of"):
        make_mesh(BALL.vertices, BALL.faces, "parity")  # type: ignore[arg-type]


TRIANGLE = "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.fbx", b"x", "is no mesh of a kind that is read here; convert it to one of OBJ, PLY, STL, GLB, GLTF, OFF."),
        ("a.obj", b"", "has no triangles that can be read"),
        ("a.ply", b"", "cannot be read as a mesh"),
        ("a.stl", b"\0" * 30, "has no triangles that can be read"),
        ("a.glb", b"glTF\2\0\0\0", "cannot be read as a mesh"),
        ("a.off", b"OFF\n3 1", "cannot be read as a mesh"),
        ("a.obj", TRIANGLE[:24].encode(), "has no triangles that can be read"),
        ("a.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n", "cannot be read as a mesh"),
        ("a.obj", b"v 0 0 0\nv 1 0 0\nv nan 1 0\nf 1 2 3\n", "a corner that is NaN or infinite (1 of 3, the first is number 2"),
        ("a.obj", b"v 0 0 0\nv 1 0 0\nv 1e999 1 0\nf 1 2 3\n", "a corner that is NaN or infinite"),
        ("a.obj", b"v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n", "has no triangle with an area"),
        ("a.obj", b"v 3 3 3\nv 3 3 3\nv 3 3 3\nf 1 2 3\n", "has no triangle with an area"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_sentence(name: str, content: bytes, sentence: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_mesh(file)
    text = str(caught.value)
    assert text.startswith(f"{file} ")
    assert sentence in text
    assert "\n" not in text


def test_files_cut_short(tmp_path: Path) -> None:
    for ending in ("ply", "glb", "stl", "off"):
        file = tmp_path / f"ball.{ending}"
        BALL.export(file)
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        with pytest.raises(UserError, match="export it again"):
            load_mesh(file)


def test_points_are_no_surface(tmp_path: Path) -> None:
    trimesh.PointCloud(np.random.default_rng(0).random((10, 3))).export(tmp_path / "cloud.ply")
    with pytest.raises(UserError, match=r"cloud\.ply has no triangles"):
        load_mesh(tmp_path / "cloud.ply")


def test_missing_and_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.obj does not exist; name a mesh \(OBJ"):
        load_mesh(tmp_path / "gone.obj")
    with pytest.raises(UserError, match=r"is a folder; name the mesh in it"):
        load_mesh(tmp_path)


def test_broken_vertices_that_no_face_uses_do_not_matter() -> None:
    mesh = make_mesh(np.vstack([[[np.nan] * 3], BALL.vertices]), BALL.faces + 1)
    assert np.isfinite(mesh.vertices).all()
    assert mesh.watertight


@pytest.mark.data
def test_the_bunny_has_holes_and_says_so(find_data: Callable[[str], Path]) -> None:
    mesh = load_mesh(find_data("sdf") / "stanford-bunny.obj")
    assert not mesh.watertight
    (note,) = mesh.notes
    assert note.startswith("sign: generalised winding number, as the surface is open (223 edges")
