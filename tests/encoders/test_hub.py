from __future__ import annotations

import logging

import numpy as np
import pytest
import timm
import torch
from numpy.testing import assert_allclose, assert_array_equal
from safetensors.torch import save_file

import deconf
from deconf.encoders import Preprocess
from deconf.encoders.placement import chosen_precision
from deconf.errors import ReadError, SettingsError

SMALL = Preprocess(height=32, width=32)
NAME = "timm:test_resnet"  # timm's smallest: 0.5 M weights, 96 features


def net(seed=1, **options):
    torch.manual_seed(seed)
    return timm.create_model("test_resnet", pretrained=False, **options).eval()


@pytest.fixture
def weights(tmp_path):
    return written(net().state_dict(), tmp_path / "net.safetensors")


def written(state, path):
    save_file({k: v.contiguous() for k, v in state.items()}, path)
    return path


def load(weights, name=NAME, **more):
    more = {"preprocess": SMALL, "device": "cpu"} | more
    return deconf.load_encoder(name, weights=weights, **more)


def films(n=5, size=40):
    return np.random.default_rng(0).integers(0, 256, (n, size, size), dtype=np.uint8)


def bare(model, images):
    batch = torch.stack([SMALL(image) for image in images])
    with torch.inference_mode():
        return model.forward_head(model.forward_features(batch), pre_logits=True).numpy()


# ---------------------------------------------------------------- the same numbers as timm


def test_a_local_file_gives_the_pooled_features_of_timm(weights):
    encoder = load(weights)
    assert_allclose(encoder.embed(films()), bare(net(), films()), atol=1e-5)
    assert encoder.width == 96
    assert not any(part.training for part in encoder.module.modules())


def test_a_vision_transformer_is_pooled_as_timm_pools_it(tmp_path):
    torch.manual_seed(0)
    model = timm.create_model("test_vit", pretrained=False, img_size=160).eval()
    path = written(model.state_dict(), tmp_path / "vit.safetensors")
    encoder = load(path, "timm:test_vit", preprocess=None)
    x = torch.randn(2, 3, 160, 160)
    with torch.inference_mode():
        expected = model.forward_head(model.forward_features(x), pre_logits=True)
    assert_allclose(encoder.embed(x), expected, atol=1e-5)
    assert encoder.preprocess.height == 160


@pytest.mark.parametrize("prefix", ["module.", "model.", "module.model."])
def test_names_of_a_training_loop_are_unwrapped_and_it_is_said(prefix, tmp_path, caplog):
    state = {prefix + k: v for k, v in net().state_dict().items()}
    path = written(state, tmp_path / "wrapped.safetensors")
    with caplog.at_level(logging.INFO):
        encoder = load(path)
    assert_allclose(encoder.embed(films()), bare(net(), films()), atol=1e-5)
    assert f"'{prefix.split('.')[0]}.' stripped from" in caplog.text


def test_half_precision_files_are_brought_to_float32(tmp_path):
    state = {k: v.half() if v.is_floating_point() else v for k, v in net().state_dict().items()}
    encoder = load(written(state, tmp_path / "half.safetensors"))
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}
    assert_allclose(encoder.embed(films()), bare(net(), films()), rtol=0.02, atol=0.01)


@pytest.mark.parametrize("lost", [("fc.",), ("num_batches_tracked",)])
def test_what_is_not_used_may_be_absent(lost, tmp_path):
    state = {k: v for k, v in net().state_dict().items() if not any(part in k for part in lost)}
    assert len(state) < len(net().state_dict())
    encoder = load(written(state, tmp_path / "net.safetensors"))
    assert_allclose(encoder.embed(films()), bare(net(), films()), atol=1e-5)


def test_the_preprocess_is_that_of_the_training_unless_another_is_passed(weights):
    own = load(weights, preprocess=None).preprocess
    assert own == Preprocess.from_timm(net().pretrained_cfg)
    assert load(weights).preprocess == SMALL
    assert load(weights, preprocess=SMALL.spec()).preprocess == SMALL


def test_a_net_for_one_channel_takes_one(tmp_path):
    path = written(net(in_chans=1).state_dict(), tmp_path / "grey.safetensors")
    encoder = load(path, preprocess=Preprocess(height=32, width=32, channels=1))
    assert encoder.embed(films()).shape == (5, 96)
    with pytest.raises(ReadError, match=r"another shape, first .*another number of channels"):
        load(path)


# ---------------------------------------------------------------- random nets


def test_a_random_net_is_the_same_each_time_and_leaves_the_generator_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = load("random")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert load("random").digest == first.digest
    assert first.embed(films()).std() > 0


# ---------------------------------------------------------------- digest, recipe, repr


def test_padding_is_part_of_the_digest_though_no_weight_tells_it():
    one, other = (load("random", "timm:test_efficientnet", pad_type=p) for p in ("same", None))
    states = (e.module.state_dict() for e in (one, other))
    assert all(torch.equal(a, b) for a, b in zip(*(s.values() for s in states), strict=True))
    assert one.digest != other.digest
    assert abs(one.embed(films()) - other.embed(films())).max() > 0


def test_the_recipe_holds_what_decides_the_numbers_and_no_path(weights, tmp_path):
    first = load(weights)
    moved = tmp_path / "elsewhere.safetensors"
    moved.write_bytes(weights.read_bytes())
    assert load(moved).recipe == first.recipe
    others = [
        load(written(net(2).state_dict(), tmp_path / "b.safetensors")),
        load(weights, preprocess=Preprocess(height=32, width=32, interpolation="bilinear")),
        load(weights, precision="bfloat16"),
    ]
    for other in others:
        assert other.recipe != first.recipe
    assert str(tmp_path) not in str(first.recipe) + first.line
    assert "width 96, bfloat16 on cpu" in repr(others[2])


def test_the_line_to_type_loads_the_same_encoder(weights, monkeypatch):
    encoder = load(weights, preprocess=Preprocess(height=32, width=32, channels=3, resize="crop"))
    monkeypatch.chdir(weights.parent)
    again = eval("deconf." + encoder.line, {"deconf": deconf})
    assert again.recipe["digest"] == encoder.digest
    assert again.preprocess == encoder.preprocess


def test_bfloat16_keeps_the_weights_and_rounds_the_embedding_a_little(weights):
    full, low = load(weights), load(weights, precision="bfloat16")
    assert low.digest == full.digest
    z, rounded = full.embed(films(20)), low.embed(films(20))
    assert rounded.dtype == np.float32
    error = np.sqrt(np.mean((rounded - z) ** 2)) / z.std()
    assert 0 < error < 0.1


def test_gradients_flow_in_bfloat16_too(weights):
    encoder = load(weights, precision="bfloat16")
    x = torch.randn(2, 3, 32, 32, requires_grad=True)
    encoder(x).sum().backward()
    assert x.grad.abs().max() > 0


def test_a_batch_is_embedded_as_each_image_alone(weights):
    encoder = load(weights)
    z = encoder.embed(films(40))  # more than a batch
    assert encoder.batch < 40
    alone = np.vstack([encoder.embed(film[None]) for film in films(40)[::13]])
    assert_allclose(z[::13], alone, atol=1e-5)


def test_on_a_gpu_nets_with_batch_norm_stay_in_float32(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    with_norm, without = torch.nn.BatchNorm2d(3), torch.nn.LayerNorm(3)
    assert chosen_precision("auto", with_norm, gpu) == torch.float32
    assert chosen_precision("auto", without, gpu) == torch.bfloat16
    assert chosen_precision("auto", without, cpu) == torch.float32
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (7, 5))
    assert chosen_precision("auto", without, gpu) == torch.float32


# ---------------------------------------------------------------- refusals


def test_nothing_is_downloaded():
    with pytest.raises(SettingsError, match=r'nothing is downloaded.*weights="random"'):
        load(None)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("timm:mobilnetv2_100", r"no architecture 'mobilnetv2_100'.*Did you mean 'mobilenetv2_"),
        ("timm:", "no architecture ''"),
        ("timm:test_resnet.imagnet", r"timm does not build 'test_resnet.imagnet'"),
    ],
)
def test_an_unknown_architecture_is_named_with_its_neighbour(name, words):
    with pytest.raises(SettingsError, match=words):
        load("random", name)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt"])
def test_a_pickle_is_refused_unopened_with_the_two_lines_that_convert_it(suffix, tmp_path):
    path = tmp_path / f"net{suffix}"
    path.write_bytes(b"not even a pickle")
    with pytest.raises(SettingsError, match=r"(?s)pickle.*weights_only=True") as told:
        load(path)
    assert "save_file" in str(told.value)
    assert '"net.safetensors")' in str(told.value)


def test_a_missing_file_a_folder_and_a_damaged_file_are_told_apart(weights):
    with pytest.raises(ReadError, match=r"no file .*nett.*Did you mean 'net.safetensors'"):
        load(weights.with_name("nett.safetensors"))
    with pytest.raises(ReadError, match=r"is a folder, it holds net.safetensors: pass the file"):
        load(weights.parent)
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ReadError, match=r"no whole .safetensors file.*Copy it again"):
        load(weights)


def test_weights_that_do_not_fit_are_counted_and_the_first_is_named(tmp_path):
    state = net().state_dict()
    state["conv1.weight" if "conv1.weight" in state else next(iter(state))] = torch.zeros(1, 2)
    gone = [k for k in state if k.endswith("weight") and not k.startswith("fc")][-2:]
    for key in gone:
        del state[key]
    state["extra.weight"] = torch.zeros(1)
    with pytest.raises(ReadError, match=r"2 of \d+ are missing, first") as told:
        load(written(state, tmp_path / "odd.safetensors"))
    for words in (gone[0], "1 names are unknown, first 'extra.weight'", "1 have another shape",
                  "(1, 2) in the file"):  # fmt: skip
        assert words in str(told.value)


def test_a_file_of_another_family_is_recognised(tmp_path):
    vit = timm.create_model("test_vit", pretrained=False)
    with pytest.raises(ReadError, match="looks like a vision transformer of timm"):
        load(written(vit.state_dict(), tmp_path / "vit.safetensors"))
    with pytest.raises(ReadError, match="another architecture"):
        load(written({"a": torch.zeros(1)}, tmp_path / "a.safetensors"))


def test_options_a_net_does_not_take_are_refused(weights):
    with pytest.raises(SettingsError, match=r"does not build 'test_vit' with .*pad_type"):
        load("random", "timm:test_vit", pad_type="same")
    with pytest.raises(SettingsError, match=r"patch16_224' takes no image of \(3, 32, 32\)"):
        load("random", "timm:vit_tiny_patch16_224")


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "tpu:0"])
def test_a_device_that_is_not_there_is_refused(weights, device):
    with pytest.raises(SettingsError, match=f"device is '{device}'"):
        load(weights, device=device)


@pytest.mark.parametrize("name", ["hf:facebook/dinov2-base", "clip:ViT-B-32"])
def test_families_that_are_not_loaded_come_with_the_lines_that_wrap_them(name):
    with pytest.raises(SettingsError, match=r"this version loads timm.*no ") as told:
        deconf.load_encoder(name)
    assert "last_hidden_state[:, 0]" in str(told.value)
    assert "preprocess=deconf.encoders.Preprocess" in str(told.value)


def test_the_wrapper_that_is_shown_works():
    class Output:
        def __init__(self, x):
            self.last_hidden_state = x

    class Transformer(torch.nn.Module):
        def forward(self, pixel_values):
            return Output(pixel_values.mean(dim=3))

    with pytest.raises(SettingsError) as told:
        deconf.load_encoder("hf:any")
    lines = str(told.value).splitlines()
    scope = {"torch": torch}
    exec("\n".join(line[4:] for line in lines if line.startswith(("    class", "        def"))),
         scope)  # fmt: skip
    encoder = deconf.load_encoder(scope["Wrapped"](Transformer()), preprocess=SMALL)
    expected = np.stack([SMALL(film).mean(dim=2)[0].numpy() for film in films()])
    assert_array_equal(encoder.embed(films()), expected)
