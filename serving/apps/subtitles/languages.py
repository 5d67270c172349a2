"""The languages Whisper knows: ISO 639 code to name (`whisper/tokenizer.py` of openai/whisper)."""

from __future__ import annotations

from collections.abc import Mapping

from serving.apps.errors import AppError

_NAMES = """
en english, zh chinese, de german, es spanish, ru russian, ko korean, fr french, ja japanese, pt portuguese,
tr turkish, pl polish, ca catalan, nl dutch, ar arabic, sv swedish, it italian, id indonesian, hi hindi, fi
finnish, vi vietnamese, he hebrew, uk ukrainian, el greek, ms malay, cs czech, ro romanian, da danish, hu
hungarian, ta tamil, no norwegian, th thai, ur urdu, hr croatian, bg bulgarian, lt lithuanian, la latin, mi
maori, ml malayalam, cy welsh, sk slovak, te telugu, fa persian, lv latvian, bn bengali, sr serbian, az
azerbaijani, sl slovenian, kn kannada, et estonian, mk macedonian, br breton, eu basque, is icelandic, hy
armenian, ne nepali, mn mongolian, bs bosnian, kk kazakh, sq albanian, sw swahili, gl galician, mr marathi,
pa punjabi, si sinhala, km khmer, sn shona, yo yoruba, so somali, af afrikaans, oc occitan, ka georgian, be
belarusian, tg tajik, sd sindhi, gu gujarati, am amharic, yi yiddish, lo lao, uz uzbek, fo faroese, ht
haitian creole, ps pashto, tk turkmen, nn nynorsk, mt maltese, sa sanskrit, lb luxembourgish, my myanmar, bo
tibetan, tl tagalog, mg malagasy, as assamese, tt tatar, haw hawaiian, ln lingala, ha hausa, ba bashkir, jw
javanese, su sundanese
"""
LANGUAGES: Mapping[str, str] = {
    code: name for code, _, name in (entry.strip().partition(" ") for entry in _NAMES.split(","))
}
_CODES = {name: code for code, name in LANGUAGES.items()} | {"mandarin": "zh"}


def code_of(language: str) -> str:
    """The code of a language given as code, locale (`zh-CN`) or English name. Raises `AppError`."""
    asked = language.strip().lower()
    code = _CODES.get(asked, asked.replace("_", "-").partition("-")[0])
    if code not in LANGUAGES:
        raise AppError(
            f"Unknown language `{language}`: give an ISO 639-1 code such as `zh` or `en`, or leave it out.",
            param="language",
        )
    return code
