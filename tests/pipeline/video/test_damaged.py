"""What builds on a damaged picture is marked, up to the next picture that builds on none."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
from commands import Run
from recordings import drifting, read_all, write_video

from clesr.pipeline.frame import Frame, Image
from clesr.pipeline.session.verify import verify
from clesr.pipeline.sources.video.file import VideoSource
from clesr.pipeline.video.decode import Damage, DecodedImage, VideoDecoder

KEY, COUNT, HIT = 10, 40, 14  # frames from key to key, of the video, and the one that is hit
PACKET = 188
CODECS = {
    "libx264": {"tune": "zerolatency", "sc_threshold": "0"},
    "libx265": {"x265-params": "log-level=none:scenecut=0:bframes=0:rc-lookahead=5:pools=1:frame-threads=1"},
    "mpeg2video": {"bf": "0", "sc_threshold": "1000000000"},
    "mpeg4": {"bf": "0", "sc_threshold": "1000000000"},
}


def transport_stream(folder: Path, codec: str) -> tuple[list[Image], bytes]:
    images = drifting(COUNT)
    path = folder / f"{codec}.ts"
    write_video(path, images, codec=codec, pixel_format="yuv420p", options={"g": str(KEY), **CODECS[codec]})
    return images, path.read_bytes()


def without(data: bytes, frame: int, *, whole: bool) -> bytes:
    """The transport stream ``data`` without a transport packet of the video's frame of this number, or without it."""
    packets = [data[at : at + PACKET] for at in range(0, len(data), PACKET)]
    begins, video = -1, []
    for index, packet in enumerate(packets):
        if (packet[1] & 0x1F) << 8 | packet[2] == 0x100:
            begins += packet[1] >> 6 & 1
            if begins == frame:
                video.append(index)
    gone = set(video if whole else video[len(video) // 2 : len(video) // 2 + 1])
    assert gone
    return b"".join(packet for index, packet in enumerate(packets) if index not in gone)


def worst(frame: Frame, image: Image) -> float:
    return float(np.abs(frame.image.astype(float) - image).mean())


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("codec", CODECS)
def test_what_builds_on_a_damaged_picture_is_marked_to_the_next_key_picture(
    codec: str, whole: bool, tmp_path: Path
) -> None:
    images, data = transport_stream(tmp_path, codec)
    (tmp_path / "hit.ts").write_bytes(without(data, HIT, whole=whole))
    frames, corrupt = read_all(VideoSource(tmp_path / "hit.ts"))
    shown = {round(frame.pts * frame.time_base * 25 - 35): frame for frame in frames}  # type: ignore[operator]
    first = min(shown)
    by_index = {index - first: frame for index, frame in shown.items()}
    marked = {index for index, frame in by_index.items() if frame.damaged}
    clean = {index for index in by_index if index not in marked}
    following = HIT + KEY - HIT % KEY
    assert clean >= {*range(HIT - 3), *range(following, COUNT)}, "not those well before, nor after the key"
    assert marked >= {index for index in by_index if HIT < index < following}
    assert len(corrupt) < KEY
    good = np.median([worst(by_index[index], images[index]) for index in clean])
    for index in clean:
        assert worst(by_index[index], images[index]) < 3 * good + 1, f"frame {index} is wrong and not marked"


def test_pictures_that_build_on_none_are_never_marked(tmp_path: Path) -> None:
    write_video(tmp_path / "a.avi", drifting(12), codec="mjpeg", pixel_format="yuvj420p")
    with av.open(tmp_path / "a.avi") as container:
        stream = container.streams.video[0]
        decoder = VideoDecoder(stream)
        decoder.broken()
        items = [item for packet in container.demux(stream) if packet.size for item in decoder.decode(packet)]
    assert len(items) == 12
    assert not any(item.damaged for item in items if isinstance(item, DecodedImage))


def test_a_prompt_decoder_gives_up_a_picture_once_a_later_one_has_come(tmp_path: Path) -> None:
    _, data = transport_stream(tmp_path, "mpeg2video")
    (tmp_path / "a.ts").write_bytes(data)
    with av.open(tmp_path / "a.ts") as container:
        stream = container.streams.video[0]
        decoder = VideoDecoder(stream, prompt=True)
        packets = [packet for packet in container.demux(stream) if packet.size]
        assert decoder._awaited is not None
        decoder._awaited[packets[HIT].pts or 0] = None
        items = [item for packet in packets if packet is not packets[HIT] for item in decoder.decode(packet)]
        items += decoder.flush()
    place = next(index for index, item in enumerate(items) if isinstance(item, Damage))
    assert items[place].pts == packets[HIT].pts
    assert items[place + 1].pts == packets[HIT + 1].pts
    after = [item.damaged for item in items[place + 1 :] if isinstance(item, DecodedImage)]
    assert after == [True] * (KEY - 1 - HIT % KEY) + [False] * (COUNT - KEY - HIT + HIT % KEY)


def test_a_key_picture_that_was_sent_before_the_damage_does_not_end_it(tmp_path: Path) -> None:
    write_video(
        tmp_path / "a.ts",
        drifting(30),
        codec="libx264",
        pixel_format="yuv420p",
        options={"g": "10", "bf": "2", "sc_threshold": "0"},
    )
    with av.open(tmp_path / "a.ts") as container:
        stream = container.streams.video[0]
        decoder = VideoDecoder(stream)
        damaged = []
        for index, packet in enumerate(container.demux(stream)):
            if packet.size:
                if index == 11:
                    decoder.broken(packet.pts)  # while the key picture before it may still be in the decoder
                    broken = packet.pts
                damaged += [item for item in decoder.decode(packet) if isinstance(item, DecodedImage)]
    keys = [item.pts for item in damaged if item.key and item.pts is not None and item.pts > (broken or 0)]
    for item in damaged:
        if item.pts is not None and broken is not None and broken <= item.pts < keys[0]:
            assert item.damaged


@pytest.mark.parametrize("damaged", ["show", "drop"])
def test_the_user_chooses_what_becomes_of_damaged_frames(damaged: str, run: Run, tmp_path: Path) -> None:
    _, data = transport_stream(tmp_path, "libx264")
    (tmp_path / "hit.ts").write_bytes(without(data, HIT, whole=False))
    folder, summary = tmp_path / "session", tmp_path / "summary.json"
    options = ["--model", "nearest", "--scale", 2, "--display", "none", "--pace", "max", "--damaged", damaged]
    source = tmp_path / "hit.ts"
    code, _, err = run("clesr-live", "--source", source, *options, "--record", folder, "--summary", summary)
    assert code == 0, err
    figures = json.loads(summary.read_text())
    lines = [json.loads(line) for line in (folder / "frames.jsonl").read_text().splitlines()]
    marked = [line for line in lines if line.get("damaged")]
    torn = [line for line in lines if line["outcome"] == "corrupt"]
    assert figures["captured"] == COUNT
    assert "builds on a damaged picture" in err
    if damaged == "show":
        assert len(marked) == figures["damaged"] >= 3
        assert {line["outcome"] for line in marked} == {"upscaled"}
    else:
        assert not marked
        assert figures["outcomes"]["corrupt"] == len(torn) >= 4
        assert not figures["damaged"]
    assert verify(folder).problems == ()


def test_an_export_says_that_frames_are_damaged(run: Run, tmp_path: Path) -> None:
    _, data = transport_stream(tmp_path, "libx264")
    source, folder = tmp_path / "hit.ts", tmp_path / "session"
    source.write_bytes(without(data, HIT, whole=False))
    options = ["--model", "nearest", "--scale", 2, "--display", "none", "--pace", "max", "--record", folder]
    run("clesr-live", "--source", source, *options)
    for recording, name in ((source, "a.mp4"), (folder, "b.mp4")):
        code, _, err = run("clesr", "export", recording, "-o", tmp_path / name)
        assert code == 0, err
        assert "of the exported frames build on a damaged picture" in err
