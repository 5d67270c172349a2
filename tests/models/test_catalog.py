"""Cards: the catalog is sound, and mistakes are told with what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.card import Card
from models.catalog_index import CATALOG, card_names, is_packaged, list_cards, load_card
from models.errors import DeclarationError, UsageError
from models.importing import register
from models.recipes import CardRecipe

TEXT = (CATALOG / "silero-vad" / "card.yaml").read_text("utf-8")
NATIVE = ["open-nsfw", "ppocr-cls", "ppocr-det", "ppocr-rec", "silero-vad"]


def test_the_catalog_has_what_the_apps_need() -> None:
    assert set(NATIVE) <= set(card_names())
    assert [card.name for card in list_cards()] == card_names()


@pytest.mark.parametrize("name", NATIVE)
def test_a_card_is_pinned_and_has_recorded_inputs(name: str, tmp_path: Path) -> None:
    card = load_card(name)
    assert is_packaged(name)
    assert card.licence
    assert all(package.files for package in card.source.packages)
    recipe = CardRecipe(card)
    assert recipe.recordings()
    cases = recipe.cases(tmp_path, tmp_path)
    wanted = {tensor.name for tensor in card.serving.inputs}
    assert cases
    assert all(set(case.inputs) == wanted for case in cases)


def test_a_mistyped_name_gets_the_nearest() -> None:
    with pytest.raises(UsageError, match="Did you mean `silero-vad`"):
        load_card("silero-vat")
    with pytest.raises(UsageError, match="There are: open-nsfw"):
        load_card("../../etc")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("licence: MIT", "license: MIT", "unknown key `license`; did you mean `licence`"),
        ("max_batch_size: 0", "max_batchsize: 0", r"`serving.max_batchsize`; did you mean `max_batch_size`"),
        ("      version: 6.2.3", "      versoin: 6.2.3", r"versoin`; did you mean `version`"),
        ("absolute: 1.0e-5", "absolut: 1.0e-5", r"absolut`; did you mean `absolute`"),
        ("precisions: [fp32]", "precisions: [fp32, int8]", "parity.tolerances lacks int8"),
        ("precisions: [fp32]", "precisions: [fp31]", "precisions.0"),
        ("name: silero-vad", "name: Silero VAD", "name: String should match"),
        ("graphs: {model: model.onnx}", "graphs: {net: model.onnx}", "exactly one graph"),
    ],
)
def test_a_mistake_in_a_card_is_told_with_its_place(old: str, new: str, message: str) -> None:
    assert old in TEXT
    with pytest.raises(DeclarationError, match=message):
        Card.parse(TEXT.replace(old, new, 1), where="card.yaml")


@given(st.text())
def test_any_text_is_a_card_or_a_told_mistake(text: str) -> None:
    with pytest.raises(DeclarationError):
        Card.parse(text, where="card.yaml")


def test_the_schema_describes_every_field() -> None:
    schema = Card.model_json_schema()
    assert schema["additionalProperties"] is False
    assert "shape" in schema["$defs"]["Tensor"]["properties"]


def test_an_import_cannot_take_a_packaged_name_or_bring_packages(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(b"x")
    card = tmp_path / "card.yaml"
    card.write_text(TEXT)
    with pytest.raises(DeclarationError, match="packaged catalog has a model `silero-vad`"):
        register(model, card)
    card.write_text(TEXT.replace("name: silero-vad", "name: mine", 1))
    with pytest.raises(DeclarationError, match=r"source.packages empty"):
        register(model, card)
    with pytest.raises(UsageError, match="is not a file"):
        register(tmp_path / "nothing.onnx", card)


def test_code_beside_an_imported_card_is_never_run(state: Path, tiny: object) -> None:
    name = tiny()  # type: ignore[operator]
    (state / "cards" / name / "export.py").write_text("raise SystemExit('ran')")
    assert CardRecipe(load_card(name)).module is None
