from __future__ import annotations

import errno
import hashlib
import json
import os
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from deconf.cohort import lock
from deconf.cohort.cache import Cache
from deconf.cohort.cohort import Cohort
from deconf.cohort.lock import LOCK, only_writer
from deconf.cohort.shards import (
    MANIFEST,
    Held,
    Manifest,
    Skipped,
    list_digest,
    read_manifest,
    read_store,
    require_same,
    write_manifest,
    write_shard,
)
from deconf.cohort.wholefile import from_parquet, parquet_bytes, write_whole
from deconf.errors import CohortError, ReadError, SettingsError

N, D, ROWS = 23, 5, 8
NAMES = [f"film {i}.png" for i in range(N)]
Z = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)


def a_store(folder: Path, names=tuple(NAMES), z=Z, lost=(), shards=None, recipe=None) -> Manifest:
    """Write a store as the embedding loop does, some images lost, some shards not reached."""
    folder.mkdir(exist_ok=True)
    manifest = Manifest(recipe or {"name": "tiny"}, 4, ROWS, list_digest(names), len(names))
    write_manifest(folder, manifest)
    for k, start in enumerate(range(0, len(names), ROWS)):
        if shards is not None and k not in shards:
            continue
        span = range(start, min(start + ROWS, len(names)))
        rows = [row for row in span if row not in lost]
        held = Held([names[r] for r in rows], ["00"] * len(rows), z[rows])
        unread = [Skipped(r, names[r], "", "it ends early.") for r in span if r in lost]
        manifest = manifest.with_shard(write_shard(folder, start, k, held), z.shape[1], unread)
        write_manifest(folder, manifest)
    return manifest


def a_table() -> pd.DataFrame:
    order = np.random.default_rng(1).permutation(N)
    return pd.DataFrame({"film": np.array(NAMES)[order], "row": order})


# --- what is read is what was written ------------------------------------------------------


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_parquet_gives_back_every_bit_and_the_same_bytes_each_time(n, d, seed):
    bits = np.random.default_rng(seed).integers(0, 2**32, size=(n, d), dtype=np.uint32)
    names = {"image": [f"ä/{i}" for i in range(n)], "content": ["x"] * n}
    data = parquet_bytes(names, bits.view(np.float32))
    back, vectors = from_parquet(data)
    assert back == names
    assert_array_equal(vectors.view(np.uint32), bits)  # also nan payloads and minus zero
    assert parquet_bytes(names, bits.view(np.float32)) == data


def test_vectors_of_many_row_groups_come_back_in_order():
    z = np.arange(20_000, dtype=np.float32).reshape(-1, 1)
    assert_array_equal(from_parquet(parquet_bytes({"a": ["x"] * len(z)}, z))[1], z)


@pytest.mark.parametrize("spelt", ["store", "store/", "absolute", "beside"])
def test_a_cohort_finds_its_rows_in_a_store_by_image_name(tmp_path, monkeypatch, spelt):
    a_store(tmp_path / "store")
    a_table().to_csv(tmp_path / "t.csv", index=False)
    if spelt != "beside":
        monkeypatch.chdir(tmp_path)
    named = {"absolute": tmp_path / "store", "beside": "store/"}.get(spelt, spelt)
    cohort = Cohort.read(tmp_path / "t.csv", image="film", embedding=named)
    assert_array_equal(cohort.embeddings, Z[a_table()["row"]])


def test_the_column_embedding_of_a_shard_reads_as_any_parquet_file_does(tmp_path):
    a_store(tmp_path / "store")
    table = a_table().rename(columns={"film": "image"})
    rows = table[table["row"] < ROWS]
    shard = tmp_path / "store" / "shard-00000.parquet"
    cohort = Cohort.read(rows, image="image", embedding=shard)
    assert_array_equal(cohort.embeddings, Z[rows["row"]])


def test_images_named_by_number_are_found_though_a_table_reads_them_as_float(tmp_path):
    a_store(tmp_path / "store", names=[str(i) for i in range(N)])
    table = pd.DataFrame({"film": np.arange(N, dtype=float)[::-1]})
    cohort = Cohort.read(table, image="film", embedding=tmp_path / "store")
    assert_array_equal(cohort.embeddings, Z[::-1])


def test_rows_of_unread_images_are_missing_and_counted(tmp_path):
    a_store(tmp_path / "store", lost=(3, 9, 22))
    with pytest.raises(CohortError, match=r"3 rows have no embedding.*on_missing=\"drop\""):
        Cohort.read(a_table(), image="film", embedding=tmp_path / "store")
    cohort = Cohort.read(a_table(), image="film", embedding=tmp_path / "store", on_missing="drop")
    assert cohort.dropped == 3
    assert_array_equal(cohort.embeddings, Z[cohort.table["row"]])


def test_a_shard_of_unread_images_only_takes_nothing_from_the_others(tmp_path):
    a_store(tmp_path / "store", lost=range(ROWS))
    assert_array_equal(read_store(tmp_path / "store").values, Z[ROWS:])


def test_a_store_without_an_image_column_in_the_table_asks_for_it(tmp_path):
    a_store(tmp_path / "store")
    with pytest.raises(CohortError, match=r"image=\.\.\. Columns: film, row"):
        Cohort.read(a_table(), embedding=tmp_path / "store")


def test_a_store_of_other_images_shows_one_of_both(tmp_path):
    a_store(tmp_path / "store", names=[f"other {i}" for i in range(N)])
    with pytest.raises(CohortError, match=r"'film \d+\.png' in the table and 'other 0' there"):
        Cohort.read(a_table(), image="film", embedding=tmp_path / "store")


# --- what is not what was written ----------------------------------------------------------


@pytest.mark.parametrize("damage", ["flip", "cut", "swap"])
def test_a_damaged_shard_is_named_with_the_remedy(tmp_path, damage):
    a_store(tmp_path / "store")
    path = tmp_path / "store" / "shard-00001.parquet"
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[len(data) // 3] ^= 1
    other = (tmp_path / "store" / "shard-00000.parquet").read_bytes()
    path.write_bytes({"flip": data, "cut": data[:-9], "swap": other}[damage])
    with pytest.raises(ReadError, match=r"'shard-00001\.parquet'.*Delete that file.*only that"):
        read_store(tmp_path / "store")


def test_a_missing_shard_is_named_with_the_remedy(tmp_path):
    a_store(tmp_path / "store")
    (tmp_path / "store" / "shard-00002.parquet").unlink()
    with pytest.raises(ReadError, match=r"'shard-00002\.parquet'.*is missing.*command"):
        read_store(tmp_path / "store")


def test_an_unfinished_store_is_refused_with_its_count(tmp_path):
    a_store(tmp_path / "store", shards=(0, 2))
    with pytest.raises(ReadError, match=r"unfinished: 15 of 23 images.*goes on where"):
        Cohort.read(a_table(), image="film", embedding=tmp_path / "store")


def test_a_manifest_cut_anywhere_is_refused_and_never_half_believed(tmp_path):
    a_store(tmp_path / "store", lost=(2,))
    path = tmp_path / "store" / MANIFEST
    whole = path.read_bytes()
    for end in range(0, len(whole.rstrip()), 7):
        path.write_bytes(whole[:end])
        with pytest.raises(ReadError, match=r"'manifest.json'.*truncated"):
            read_manifest(tmp_path / "store")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, "format 2; this version reads 1"),
        ({"colour": "red"}, "colour"),
        ({"shards": [{"first": 0, "rows": 1, "file": "../x", "sha256": ""}]}, "another name"),
    ],
)
def test_a_manifest_of_another_kind_is_refused(tmp_path, change, said):
    a_store(tmp_path / "store")
    path = tmp_path / "store" / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ReadError, match=said):
        read_manifest(tmp_path / "store")


def test_a_folder_without_manifest_is_said_to_be_no_store(tmp_path):
    (tmp_path / "store").mkdir()
    with pytest.raises(ReadError, match=r"no store of embeddings.*manifest\.json"):
        Cohort.read(a_table(), image="film", embedding=tmp_path / "store")


@pytest.mark.parametrize(
    ("now", "said"),
    [
        ({"recipe": {"name": "tiny", "precision": "bfloat16"}}, "recipe.precision is None there"),
        ({"recipe": {"name": "large"}}, "recipe.name is 'tiny' there and 'large' now"),
        ({"batch": 5}, "batch is 4 there and 5 now"),
        ({"rows_per_shard": 9}, "rows_per_shard is 8 there and 9 now"),
        ({"images": [*NAMES, "new"]}, "23 there, 24 now"),
        ({"images": [*NAMES[:11], "new", *NAMES[12:]]}, "row 11 is 'film 11.png' there and 'new'"),
        ({"images": [*NAMES[:9], "new", *NAMES[10:]]}, "row 9 is 'film 9.png' there and 'new'"),
    ],
)
def test_what_differs_from_the_store_is_named_with_both_values(tmp_path, now, said):
    found = a_store(tmp_path / "store", lost=(9,))
    asked = {"recipe": {"name": "tiny"}, "batch": 4, "rows_per_shard": ROWS, "images": NAMES} | now
    images = asked.pop("images")
    wanted = Manifest(**asked, inputs=list_digest(images), total=len(images))
    with pytest.raises(SettingsError, match=f"{said}.*another folder"):
        require_same(found, wanted, tmp_path / "store", images)


# --- written whole, by one writer ----------------------------------------------------------


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_no_part_of_the_new(tmp_path, monkeypatch, call):
    write_whole(tmp_path / "a", b"old")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space"):
        write_whole(tmp_path / "a", b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_a_folder_has_one_writer_who_is_named_to_the_second(tmp_path):
    with (
        only_writer(tmp_path),
        pytest.raises(SettingsError, match=rf"process {os.getpid()} on .*one writer.*Wait"),
        only_writer(tmp_path),
    ):
        pass
    with only_writer(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_of_many_who_ask_at_once_never_two_write(tmp_path):
    inside, most, entered = [0], [0], [0]

    def work():
        for _ in range(40):
            try:
                with only_writer(tmp_path):
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    entered[0] += 1
                    inside[0] -= 1
            except SettingsError:
                pass

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most[0], entered[0] > 0) == (1, True)


def test_a_lock_got_on_a_file_that_was_just_removed_is_no_lock(tmp_path, monkeypatch):
    true, calls = lock._lock, []

    def removed_meanwhile(handle):
        if not calls:  # the last holder leaves between our opening and our locking
            (tmp_path / LOCK).unlink()
        calls.append(true(handle))

    monkeypatch.setattr(lock, "_lock", removed_meanwhile)
    with only_writer(tmp_path), pytest.raises(SettingsError), only_writer(tmp_path):
        pass


def test_the_lock_of_a_dead_process_is_told_and_taken_over(tmp_path, caplog):
    (tmp_path / LOCK).write_text("process 99999999 on elsewhere")
    with only_writer(tmp_path):
        pass
    assert "process 99999999 on elsewhere was ended" in caplog.text


def test_a_file_system_without_locks_is_a_warning(tmp_path, monkeypatch):
    def none(_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("deconf.cohort.lock._lock", none)
    with pytest.warns(UserWarning, match="keeps no locks.*no other run"), only_writer(tmp_path):
        pass


# --- the cache -----------------------------------------------------------------------------


def test_a_cache_remembers_across_openings_and_only_its_recipe(tmp_path):
    for part in (Z[:9], Z[9:]):  # two runs, two files
        cache = Cache(tmp_path, {"name": "tiny"})
        for z in part:
            cache.add(z.tobytes().hex(), z)
        cache.flush()
    again, other = Cache(tmp_path, {"name": "tiny"}), Cache(tmp_path, {"name": "large"})
    assert_array_equal([again.get(z.tobytes().hex()) for z in Z], Z)
    assert all(other.get(z.tobytes().hex()) is None for z in Z)


def test_two_caches_open_at_once_lose_nothing_of_each_other(tmp_path):
    one, two = Cache(tmp_path, {}), Cache(tmp_path, {})
    for i, z in enumerate(Z):
        (one if i % 2 else two).add(str(i), z)
        one.add("both", Z[0])
        two.add("both", Z[0])
    one.flush()
    two.flush()
    both = Cache(tmp_path, {})
    assert_array_equal([both.get(str(i)) for i in range(N)], Z)
    assert_array_equal(both.get("both"), Z[0])


def test_a_damaged_cache_file_is_named_and_not_believed(tmp_path):
    cache = Cache(tmp_path, {})
    cache.add("a", Z[0])
    cache.flush()
    (path,) = tmp_path.rglob("*.parquet")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.warns(UserWarning, match=rf"{path.name}.*encoded again"):
        cache = Cache(tmp_path, {})
    assert cache.get("a") is None
    cache.add("a", Z[0])
    cache.flush()  # the same content has the same name: the damaged file is replaced
    assert_array_equal(Cache(tmp_path, {}).get("a"), Z[0])


def test_a_cache_on_a_full_disk_warns_and_costs_no_result(tmp_path, monkeypatch):
    cache = Cache(tmp_path, {})
    cache.add("a", Z[0])

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(UserWarning, match="No space left.*used but not kept"):
        cache.flush()
    assert_array_equal(cache.get("a"), Z[0])


def test_the_manifest_vouches_for_the_bytes_of_every_shard(tmp_path):
    manifest = a_store(tmp_path / "store")
    for shard in manifest.shards:
        data = (tmp_path / "store" / shard.file).read_bytes()
        assert hashlib.sha256(data).hexdigest() == shard.sha256
    assert sum(shard.rows for shard in manifest.shards) == N
