from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_array_equal
from torch import Tensor

from deconf.cohort.cohort import Cohort
from deconf.cohort.shards import read_store
from deconf.encoders.embedding import embed_files, embed_to_store
from deconf.errors import CohortError, DeconfError, ReadError, SettingsError

Image = pytest.importorskip("PIL.Image")

N, SIDE, ROWS, BATCH = 22, 6, 8, 3


class TinyEncoder:
    """Pixels times a matrix; what it is given is on record."""

    def __init__(self, seed: int = 0) -> None:
        self.matrix = np.random.default_rng(seed).normal(size=(SIDE * SIDE, 4))
        self.recipe = {"name": "tiny", "seed": seed, "size": (SIDE, SIDE)}
        self.batch = BATCH
        self.given: list[int] = []
        self.read = 0

    def preprocess(self, image) -> Tensor:
        self.read += 1
        return torch.from_numpy(np.asarray(image, dtype=np.float32))[None]

    def encode(self, batch: Tensor) -> np.ndarray:
        self.given.append(len(batch))
        return (batch.flatten(1).numpy() @ self.matrix).astype(np.float32)


def draw(path: Path, seed: int) -> Path:
    pixels = np.random.default_rng(seed).integers(256, size=(SIDE, SIDE), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def films(tmp_path) -> list[Path]:
    (tmp_path / "films").mkdir()
    return [draw(tmp_path / "films" / f"{i:02d}.png", i) for i in range(N)]


def studies(films: list[Path]) -> SimpleNamespace:
    """Return what the store asks of a cohort."""
    table = pd.DataFrame({"film": [path.name for path in films]})
    return SimpleNamespace(table=table, roles={"image": "film"}, image_paths=films)


def store(films, folder, encoder=None, **settings):
    settings = {"rows_per_shard": ROWS} | settings
    return embed_to_store(encoder or TinyEncoder(), studies(films), folder, **settings)


def expected(films: list[Path], encoder: TinyEncoder | None = None) -> np.ndarray:
    encoder = encoder or TinyEncoder()
    z = [encoder.encode(encoder.preprocess(Image.open(path))[None])[0] for path in films]
    return np.array(z)


def files(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


def our_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("deconf-")]


# --- in memory -----------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 5])
@pytest.mark.parametrize("batch", [1, 4, 22, 50])
def test_every_file_gets_its_own_embedding_whatever_the_batch_and_threads(films, batch, workers):
    found = embed_files(TinyEncoder(), films, batch=batch, workers=workers)
    # a product of matrices rounds by its shape, hence not to the last bit
    np.testing.assert_allclose(found.vectors, expected(films), rtol=1e-5)
    assert (found.vectors.dtype, found.unread, our_threads()) == (np.float32, (), [])


def test_an_embedding_does_not_depend_on_the_files_beside_it(films):
    conv = torch.nn.Sequential(
        torch.nn.Conv2d(1, 64, 3), torch.nn.Flatten(), torch.nn.Linear(1024, 9)
    )
    encoder = TinyEncoder()
    encoder.encode = lambda batch: conv(batch / 255).detach().numpy()
    whole = embed_files(encoder, films, batch=8).vectors
    for rows in ([0], [21, 3], [5, 6, 7, 8, 9, 10, 11, 12, 13], list(range(21, -1, -1))):
        part = embed_files(encoder, [films[i] for i in rows], batch=8).vectors
        assert_array_equal(part, whole[rows])


def test_every_batch_the_encoder_sees_has_one_size(films):
    encoder = TinyEncoder()
    embed_files(encoder, films, batch=4)
    assert encoder.given == [4] * 6


def test_reading_is_never_far_ahead_of_the_encoder(films):
    encoder = TinyEncoder()
    ahead = []
    encode = encoder.encode

    def slow(batch):
        time.sleep(0.02)
        ahead.append(encoder.read - BATCH * len(encoder.given))
        return encode(batch)

    encoder.encode = slow
    embed_files(encoder, films)
    assert max(ahead) <= 5 * BATCH  # with it, put together, and three batches being read


def test_the_encoder_runs_in_the_calling_thread(films):
    encoder, seen = TinyEncoder(), set()
    encode = encoder.encode
    encoder.encode = lambda batch: (seen.add(threading.get_ident()), encode(batch))[1]
    embed_files(encoder, films)
    assert seen == {threading.get_ident()}


def test_progress_ends_at_the_total_and_never_goes_back(films):
    films[4].write_bytes(b"")
    said = []
    embed_files(TinyEncoder(), films, on_error="skip", progress=lambda *at: said.append(at))
    assert said[-1] == (N, N)
    assert said == sorted(said)
    assert {total for _, total in said} == {N}


# --- files that cannot be read -------------------------------------------------------------


def test_a_bad_file_stops_the_run_with_its_name_the_count_and_the_way_on(films):
    films[13].write_bytes(films[13].read_bytes()[:40])
    with pytest.raises(ReadError, match=r"13\.png.* of 22 images .*on_error=\"skip\""):
        embed_files(TinyEncoder(), films)
    assert our_threads() == []


def test_of_several_bad_files_the_first_is_named(films):
    for row in (20, 9, 10):
        films[row].write_bytes(b"")
    with pytest.raises(ReadError, match=r"09\.png"):
        embed_files(TinyEncoder(), films, workers=6)


def test_skipping_lists_what_was_unread_and_changes_no_other_row(films):
    whole = embed_files(TinyEncoder(), films).vectors
    films[0].write_bytes(b"")
    films[7].unlink()
    found = embed_files(TinyEncoder(), films, on_error="skip")
    assert [(u.row, u.path) for u in found.unread] == [(0, films[0]), (7, films[7])]
    assert all(u.path.name in u.why for u in found.unread)
    good = [i for i in range(N) if i not in (0, 7)]
    assert_array_equal(found.vectors[good], whole[good])
    assert np.isnan(found.vectors[[0, 7]]).all()


def test_a_list_of_which_nothing_can_be_read_is_an_error_though_skipped(films):
    for film in films[:3]:
        film.write_bytes(b"")
    with pytest.raises(ReadError, match=r"none of 3 files can be read\. The first: .*00\.png"):
        embed_files(TinyEncoder(), films[:3], on_error="skip")


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_an_embedding_that_is_not_finite_names_the_file(films, on_error):
    encoder = TinyEncoder()
    encode = encoder.encode
    bad = np.asarray(Image.open(films[17]), dtype=np.float32).sum()

    def broken(batch):
        z = encode(batch)
        z[batch.sum(dim=(1, 2, 3)).numpy() == bad] = np.inf
        return z

    encoder.encode = broken
    with pytest.raises(CohortError, match=r"nan or infinity for '[^,]*17\.png': 1 of a batch"):
        embed_files(encoder, films, on_error=on_error)


def test_preprocessing_to_several_sizes_is_named_with_both_files(films):
    Image.new("L", (SIDE, SIDE + 1)).save(films[4])
    with pytest.raises(SettingsError, match=r"\(1, 7, 6\) for '[^']*04.png' and \(1, 6, 6\) for"):
        embed_files(TinyEncoder(), films)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"on_error": "ignore"}, "on_error is 'ignore': expected 'raise' or 'skip'"),
        ({"batch": 0}, "batch is 0"),
        ({"workers": 2.5}, "workers is 2.5"),
    ],
)
def test_a_setting_out_of_range_is_said_before_work_begins(films, settings, said):
    encoder = TinyEncoder()
    with pytest.raises(SettingsError, match=said):
        embed_files(encoder, films, **settings)
    assert encoder.read == 0


def test_an_encoder_that_cannot_read_files_and_an_empty_list_are_said(films):
    with pytest.raises(SettingsError, match=r"no preprocess.*load_encoder"):
        embed_files(SimpleNamespace(preprocess=None), films)
    with pytest.raises(CohortError, match="empty"):
        embed_files(TinyEncoder(), [])


@pytest.mark.parametrize("where", ["encode", "progress"])
def test_an_interrupt_leaves_no_threads_and_no_lock(films, tmp_path, where):
    encoder = TinyEncoder()

    def interrupt(*_):
        raise KeyboardInterrupt

    if where == "encode":
        encoder.encode = interrupt
    progress = interrupt if where == "progress" else None
    with pytest.raises(KeyboardInterrupt):
        embed_files(encoder, films, progress=progress)
    assert our_threads() == []
    with pytest.raises(KeyboardInterrupt):
        store(films, tmp_path / "store", encoder, progress=progress)
    assert our_threads() == []
    assert store(films, tmp_path / "store").rows == N


# --- through a cache -----------------------------------------------------------------------


def test_what_was_embedded_once_is_neither_read_nor_encoded_again(films, tmp_path):
    plain = embed_files(TinyEncoder(), films).vectors
    first = embed_files(TinyEncoder(), films, cache=tmp_path / "cache").vectors
    encoder = TinyEncoder()
    second = embed_files(encoder, films[::-1], cache=tmp_path / "cache").vectors
    assert (encoder.read, encoder.given) == (0, [])
    assert_array_equal(first, plain)
    assert_array_equal(second, plain[::-1])


def test_a_cache_that_knows_some_changes_no_bit_of_the_others(films, tmp_path):
    embed_files(TinyEncoder(), films[3:14:2], cache=tmp_path / "cache")
    encoder = TinyEncoder()
    mixed = embed_files(encoder, films, cache=tmp_path / "cache").vectors
    assert_array_equal(mixed, embed_files(TinyEncoder(), films).vectors)
    assert encoder.read == N - 6


def test_a_changed_film_recipe_or_batch_is_embedded_anew(films, tmp_path):
    embed_files(TinyEncoder(), films, cache=tmp_path / "cache")
    draw(films[5], 99)
    encoder = TinyEncoder()
    found = embed_files(encoder, films, cache=tmp_path / "cache").vectors
    assert encoder.read == 1
    assert_array_equal(found, embed_files(TinyEncoder(), films).vectors)
    for other, batch in ((TinyEncoder(seed=1), None), (TinyEncoder(), 4)):
        embed_files(other, films, cache=tmp_path / "cache", batch=batch)
        assert other.read == N


def test_a_run_that_breaks_off_leaves_what_it_did_in_the_cache(films, tmp_path):
    films[20].write_bytes(b"")
    with pytest.raises(ReadError):
        embed_files(TinyEncoder(), films, cache=tmp_path / "cache", workers=1)
    encoder = TinyEncoder()
    embed_files(encoder, films[:9], cache=tmp_path / "cache")
    assert encoder.read == 0


# --- into a store --------------------------------------------------------------------------


def test_a_store_holds_what_the_loop_gives_and_a_second_run_does_nothing(films, tmp_path):
    done = store(films, tmp_path / "store")
    assert (done.rows, done.embedded_now, done.reused, done.unread) == (N, N, 0, ())
    before = files(tmp_path / "store")
    assert set(before) == {"manifest.json", *(f"shard-0000{i}.parquet" for i in range(3))}
    assert_array_equal(
        read_store(tmp_path / "store").values, embed_files(TinyEncoder(), films).vectors
    )
    encoder = TinyEncoder()
    again = store(films, tmp_path / "store", encoder)
    assert (again.embedded_now, again.reused, encoder.read) == (0, N, 0)
    assert files(tmp_path / "store") == before


def test_a_cohort_reads_the_store_written_from_it(films, tmp_path):
    pd.DataFrame({"film": [f"films/{film.name}" for film in films]}).to_csv(tmp_path / "t.csv")
    cohort = Cohort.read(tmp_path / "t.csv", image="film")
    embed_to_store(TinyEncoder(), cohort, tmp_path / "store", rows_per_shard=ROWS)
    read = Cohort.read(tmp_path / "t.csv", image="film", embedding="store/")
    assert_array_equal(read.embeddings, embed_files(TinyEncoder(), films).vectors)


def test_an_image_named_in_two_rows_is_embedded_once_and_read_for_both(films, tmp_path):
    twice = [films[i] for i in (0, 1, 0, 2, 1)]
    encoder = TinyEncoder()
    assert store(twice, tmp_path / "store", encoder).rows == 3
    assert encoder.read == 3
    read = Cohort.read(studies(twice).table, image="film", embedding=tmp_path / "store")
    three = read_store(tmp_path / "store").values
    assert_array_equal(read.embeddings, three[[0, 1, 0, 2, 1]])


DRIVER = textwrap.dedent(
    """
    # One process loads the libraries; each fork of it dies at another moment of the writing.
    import os, shutil, signal, sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    import test_embedding as here

    work, films = Path(sys.argv[2]), sorted(Path(sys.argv[3]).iterdir())
    begun = Path(sys.argv[4]) if len(sys.argv) > 4 else None

    def dying(call, at, after):
        '''Return a call that ends the process the at-th time, before or after it is made.'''
        count = 0
        def counted(*args, **named):
            nonlocal count
            count += 1
            if count == at and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            out = call(*args, **named)
            if count == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return out
        return counted

    def run(folder, name, at, after):
        settings = {}
        if name == "progress":
            settings["progress"] = dying(lambda *_: None, at, after)
        else:
            setattr(os, name, dying(getattr(os, name), at, after))
        here.store(films, folder, **settings)

    for name in ("progress", "fsync", "replace"):
        for after in (False, True):
            for at in range(1, 99):
                folder = work / f"{name}-{at}-{after}"
                if begun is not None:
                    shutil.copytree(begun, folder)
                child = os.fork()
                if child == 0:
                    try:
                        run(folder, name, at, after)
                    finally:
                        os._exit(0)
                if os.waitpid(child, 0)[1] == 0:
                    break  # it outlived all such calls
    """
)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the driver forks")
@pytest.mark.parametrize("is_begun", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_killed_at_any_moment_and_resumed_it_is_the_store_of_a_run_that_was_not(
    films, tmp_path, is_begun
):
    begun = []
    if is_begun:  # a finished store, of which two shards must be made again
        store(films, tmp_path / "begun")
        begun = [tmp_path / "begun"]
        draw(films[1], 77)
        (tmp_path / "begun" / "shard-00002.parquet").unlink()
    store(films, tmp_path / "whole")
    want = files(tmp_path / "whole")
    (tmp_path / "killed").mkdir()
    command = [sys.executable, "-W", "ignore", "-c", DRIVER, Path(__file__).parent]
    places = [tmp_path / "killed", tmp_path / "films", *begun]
    subprocess.run([*map(str, command), *map(str, places)], check=True, timeout=100)

    killed = sorted((tmp_path / "killed").iterdir())
    assert len(killed) > 30
    unlike = 0
    for folder in killed:
        unlike += files(folder) != want
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the changed film, where it was not reached
            store(films, folder)
        assert files(folder) == want, folder.name
    assert unlike > 30  # or nothing was interrupted


def test_a_killed_writer_is_told_of_and_its_half_files_are_removed(films, tmp_path, caplog):
    folder = tmp_path / "store"
    folder.mkdir()
    (folder / ".writing").write_text("process 99999999 on elsewhere")
    (folder / "shard-00000.parquet.0123abcd.partial").write_bytes(b"half")
    store(films, folder)
    assert "process 99999999 on elsewhere was ended" in caplog.text
    assert set(files(folder)) == {"manifest.json", *(f"shard-0000{i}.parquet" for i in range(3))}


def test_a_second_writer_is_refused_while_the_first_goes_on(films, tmp_path):
    refused = []

    def barge_in(*_):
        with pytest.raises(SettingsError, match=r"process \d+ on .*one writer.*another folder"):
            store(films, tmp_path / "store")
        refused.append(True)

    assert store(films, tmp_path / "store", progress=barge_in).rows == N
    assert refused


def test_an_altered_shard_is_named_and_made_again_once_deleted(films, tmp_path):
    store(films, tmp_path / "store")
    want = files(tmp_path / "store")
    path = tmp_path / "store" / "shard-00001.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ReadError, match=r"'shard-00001\.parquet'.*Delete that file"):
        store(films, tmp_path / "store")
    path.unlink()
    encoder = TinyEncoder()
    done = store(films, tmp_path / "store", encoder)
    assert (done.embedded_now, done.reused, encoder.read) == (ROWS, N - ROWS, ROWS)
    assert files(tmp_path / "store") == want


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("at", [2, 5, 7])
def test_a_full_disk_says_what_is_kept_and_the_next_run_goes_on(
    films, tmp_path, monkeypatch, call, at
):
    store(films, tmp_path / "whole")
    true, count = getattr(os, call), 0

    def filling(*args):
        nonlocal count
        count += 1
        if count >= at:
            raise OSError(errno.ENOSPC, "No space left on device")
        return true(*args)

    monkeypatch.setattr(os, call, filling)
    with pytest.raises(DeconfError, match=r"No space left.* of 22 images.*kept.*same command") as e:
        store(films, tmp_path / "store")
    monkeypatch.undo()
    done = store(films, tmp_path / "store")
    assert f": {done.reused} of 22 images" in str(e.value)
    assert files(tmp_path / "store") == files(tmp_path / "whole")


def test_a_film_changed_since_is_told_of_and_not_reused(films, tmp_path):
    store(films, tmp_path / "store")
    before = films[9].stat()
    draw(films[9], 99)
    os.utime(films[9], ns=(before.st_atime_ns, before.st_mtime_ns))  # the date says nothing
    with pytest.warns(UserWarning, match=r"'09\.png': not the file that was embedded.*again"):
        done = store(films, tmp_path / "store")
    assert (done.embedded_now, done.reused) == (ROWS, N - ROWS)
    store(films, tmp_path / "fresh")
    assert files(tmp_path / "store") == files(tmp_path / "fresh")


def test_another_recipe_list_or_batch_is_refused_and_the_store_untouched(films, tmp_path):
    store(films, tmp_path / "store")
    before = files(tmp_path / "store")
    for others, said in (
        ({"encoder": TinyEncoder(seed=1)}, "recipe.seed is 0 there and 1 now.*another folder"),
        ({"films": films[:-1]}, "the list of images.*22 there, 21 now"),
        ({"films": films[::-1]}, "row 0 is '00.png' there and '21.png' now"),
        ({"batch": 5}, "batch is 3 there and 5 now"),
        ({"rows_per_shard": 5}, "rows_per_shard is 8 there and 5 now"),
    ):
        with pytest.raises(SettingsError, match=said):
            store(**({"films": films, "folder": tmp_path / "store"} | others))
    assert files(tmp_path / "store") == before


def test_a_store_keeps_the_batch_it_was_begun_with(films, tmp_path):
    store(films, tmp_path / "whole", batch=5)
    before = files(tmp_path / "whole")
    (tmp_path / "whole" / "shard-00001.parquet").unlink()
    encoder = TinyEncoder()
    store(films, tmp_path / "whole", encoder)
    assert encoder.given == [5, 5]
    assert files(tmp_path / "whole") == before


def test_skipped_films_are_listed_and_taken_in_once_they_are_mended(films, tmp_path):
    whole, good = films[12].read_bytes(), films[3].read_bytes()
    films[12].write_bytes(whole[:30])
    films[3].unlink()
    for _ in range(2):  # what has not changed is not tried again
        encoder = TinyEncoder()
        done = store(films, tmp_path / "store", encoder, on_error="skip")
        assert [(u.row, u.path) for u in done.unread] == [(3, films[3]), (12, films[12])]
        assert done.rows == N - 2
    assert encoder.read == 0
    before = files(tmp_path / "store")
    with pytest.raises(ReadError, match=r"03\.png.* 2 of 22 images .*Mend them.*on_error=\"skip\""):
        store(films, tmp_path / "store")
    assert files(tmp_path / "store") == before
    films[12].write_bytes(whole)
    films[3].write_bytes(good)
    with pytest.warns(UserWarning, match="'03.png', '12.png'"):
        store(films, tmp_path / "store")
    store(films, tmp_path / "fresh")
    assert files(tmp_path / "store") == files(tmp_path / "fresh")


def test_a_disk_that_went_away_takes_nothing_from_the_store(films, tmp_path):
    store(films, tmp_path / "store", on_error="skip")
    before = files(tmp_path / "store")
    for film in films:
        film.unlink()
    with pytest.raises(ReadError, match=r"00\.png.*cannot be opened now.*mounted"):
        store(films, tmp_path / "store", on_error="skip")
    assert files(tmp_path / "store") == before


def test_nothing_is_written_among_other_files(films, tmp_path):
    with pytest.raises(SettingsError, match=r"holds 00\.png, 01\.png.*is no store.*new folder"):
        store(films, tmp_path / "films")
    with pytest.raises(SettingsError, match="is a file"):
        store(films, films[0])
    assert sorted((tmp_path / "films").iterdir()) == films


def test_a_store_of_which_no_film_can_be_read_is_an_error(films, tmp_path):
    for film in films:
        film.write_bytes(b"")
    with pytest.raises(ReadError, match=r"none of 22 images can be read\. The first: .*00\.png"):
        store(films, tmp_path / "store", on_error="skip")


def test_progress_counts_what_was_there_before(films, tmp_path):
    store(films, tmp_path / "store")
    (tmp_path / "store" / "shard-00000.parquet").unlink()
    said = []
    store(films, tmp_path / "store", progress=lambda *at: said.append(at))
    assert (said[0], said[-1]) == ((N - ROWS + BATCH, N), (N, N))
