"""Whisper speech recognition: CTranslate2 weights read, the network rebuilt as ONNX, and its token loop."""
