"""What a file is, told from its first bytes: names lie, and some libraries are handed only what they can read."""

from __future__ import annotations

from dataclasses import dataclass
import struct

from ..models import Kind

HEAD = 4096
"""Bytes that `sniff` wants to see of a file."""


@dataclass(frozen=True, slots=True)
class Content:
    """The content types that a container's files have, by what lies in them. Most containers can hold films and songs."""

    video: str | None = None
    music: str | None = None
    photo: str | None = None

    def of(self, kind: Kind) -> str | None:
        """Return the content type of such a file if `kind` is what lies in it; None if it cannot hold that."""
        return {
            Kind.VIDEO: self.video,
            Kind.MUSIC: self.music,
            Kind.PHOTO: self.photo,
        }[kind]

    def likely(self, kind: Kind) -> Kind:
        """Return `kind` if it can be in such a file, else what can."""
        possible = [each for each in Kind if self.of(each)]
        return kind if kind in possible else possible[0]


_MP4 = Content(video="video/mp4", music="audio/mp4")
_QUICKTIME = Content(video="video/quicktime", music="audio/mp4")
_3GP = Content(video="video/3gpp", music="audio/3gpp")
_3G2 = Content(video="video/3gpp2", music="audio/3gpp2")
_MATROSKA = Content(video="video/x-matroska", music="audio/x-matroska")
_WEBM = Content(video="video/webm", music="audio/webm")
_OGG = Content(video="video/ogg", music="audio/ogg")
_OGG_SOUND = Content(music="audio/ogg")
_AVI = Content(video="video/x-msvideo", music="audio/x-msvideo")
_ASF = Content(video="video/x-ms-wmv", music="audio/x-ms-wma")
_FLV = Content(video="video/x-flv", music="audio/x-flv")
_TRANSPORT = Content(video="video/mp2t", music="audio/mp2t")
_PROGRAM = Content(video="video/mpeg", music="audio/mpeg")
_MP3 = Content(music="audio/mpeg")
_AAC = Content(music="audio/aac")
_FLAC = Content(music="audio/flac")
_WAV = Content(music="audio/wav")
_AIFF = Content(music="audio/aiff")
_JPEG = Content(photo="image/jpeg")
_PNG = Content(photo="image/png")
_GIF = Content(photo="image/gif")
_WEBP = Content(photo="image/webp")
_TIFF = Content(photo="image/tiff")
_BMP = Content(photo="image/bmp")
_AVIF = Content(photo="image/avif")
_HEIC = Content(photo="image/heic")
_HEIF = Content(photo="image/heif")

DEMUXERS = {
    "aac": _AAC,
    "aiff": _AIFF,
    "asf": _ASF,
    "avi": _AVI,
    "flac": _FLAC,
    "flv": _FLV,
    "matroska": _MATROSKA,
    "mov": _MP4,
    "mp3": _MP3,
    "mpeg": _PROGRAM,
    "mpegts": _TRANSPORT,
    "mpegvideo": _PROGRAM,
    "ogg": _OGG,
    "wav": _WAV,
}
"""The demuxers of FFmpeg that may open a file here, and what they mean where the first bytes do not tell.

No others: those for playlists and scripts (hls, dash, concat, ...) would open further files and network addresses that
the file names."""

_PREFIXES = (
    (b"\xff\xd8\xff", _JPEG),
    (b"\x89PNG\r\n\x1a\n", _PNG),
    (b"GIF87a", _GIF),
    (b"GIF89a", _GIF),
    (b"II*\0", _TIFF),
    (b"MM\0*", _TIFF),
    (b"fLaC", _FLAC),
    (b"ID3", _MP3),
    (b"FLV\x01", _FLV),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", _ASF),
    (b"\0\0\x01\xba", _PROGRAM),
    (b"\0\0\x01\xb3", _PROGRAM),
)
_RIFF = {b"WEBP": _WEBP, b"WAVE": _WAV, b"AVI ": _AVI}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}
_OLD_QUICKTIME = {b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"}
_BMP_HEADERS = {12, 40, 52, 56, 64, 108, 124}
_TS_PACKET = 188


def sniff(head: bytes) -> Content | None:
    """Return what a file that begins with `head` (`HEAD` bytes, if it has them) can be; None if that is unknown."""
    for prefix, content in _PREFIXES:
        if head.startswith(prefix):
            return content
    match head[:4]:
        case b"RIFF":
            return _RIFF.get(head[8:12])
        case b"FORM":
            return _AIFF if head[8:12] in (b"AIFF", b"AIFC") else None
        case b"OggS":
            return _OGG if b"\x80theora" in head else _OGG_SOUND
        case b"\x1a\x45\xdf\xa3":
            return _WEBM if b"webm" in head[:64] else _MATROSKA
    if head[4:8] == b"ftyp":
        return _by_brand(head)
    if head[4:8] in _OLD_QUICKTIME:
        return _QUICKTIME
    return _by_structure(head)


def merged(sniffed: Content | None, demuxed: Content) -> Content:
    """Return what a file is whose first bytes say `sniffed` and whose demuxer says `demuxed`.

    The demuxer has seen more: an ID3 tag may stand before a FLAC file too. But two of them open several kinds of files,
    which only the first bytes tell apart.
    """
    return sniffed if sniffed and demuxed in (_MP4, _MATROSKA) else demuxed


def _by_brand(head: bytes) -> Content:
    """Tell the many files apart that are built like an mp4."""
    length = min(struct.unpack(">I", head[:4])[0], len(head))
    major = head[8:12]
    brands = {major} | {head[at : at + 4] for at in range(16, length, 4)}
    if major in (b"avif", b"avis") or (
        major in (b"mif1", b"msf1") and brands & {b"avif", b"avis"}
    ):
        return _AVIF
    if major in _HEIC_BRANDS or (major in (b"mif1", b"msf1") and brands & _HEIC_BRANDS):
        return _HEIC
    if major in (b"mif1", b"msf1"):
        return _HEIF
    if major == b"qt  ":
        return _QUICKTIME
    return {b"3gp": _3GP, b"3g2": _3G2}.get(major[:3], _MP4)


def _by_structure(head: bytes) -> Content | None:
    """Recognise what has no real signature: bitmaps, transport streams, and bare frames of MP3 and AAC."""
    if head[:2] == b"BM" and len(head) > 18:
        return _BMP if struct.unpack("<I", head[14:18])[0] in _BMP_HEADERS else None
    for start, packet in ((0, _TS_PACKET), (4, _TS_PACKET + 4)):
        marks = head[start : start + 5 * packet : packet]
        if len(marks) == 5 and set(marks) == {0x47}:
            return _TRANSPORT
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    if head[1] & 0xF6 == 0xF0:
        return _AAC
    layer, bit_rate, sample_rate = (
        head[1] >> 1 & 3,
        head[2] >> 4,
        head[2] >> 2 & 3,
    )
    return _MP3 if layer and bit_rate != 15 and sample_rate != 3 else None
