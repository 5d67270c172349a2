"""Subtitles: any audio or video in, cues by broadcast rules out."""
