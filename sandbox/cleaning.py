"""What Airlock has on this machine and its engine: what to remove of it, by `airlock reap` and `airlock clean`.

Nothing is ours but a container with our label, an image with our name and a tag of our form, and a directory whose name
has our form, in the place where we make it. All else is never touched, whatever lies beside it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Iterator
from functools import partial
from operator import itemgetter
from typing import Any, Final

import docker
import docker.errors
import requests

from sandbox.base_image import BASE_REPOSITORY, made_base
from sandbox.build_dir import PREFIX, temp_dir
from sandbox.engine import Engine
from sandbox.errors import EngineUnavailable
from sandbox.image import REPOSITORIES, architecture_of, image_tag
from sandbox.leftovers import Leftover
from sandbox.owned_dir import find_owned
from sandbox.reaper import SHORT_ID, find_boxes
from sandbox.store import STORE_PREFIX, state_dir

_REPOSITORIES: Final = ("airlock-data", "airlock-kernel", BASE_REPOSITORY)
_TAG: Final = re.compile(r"[0-9a-f]{16}")
_TITLE: Final = "org.opencontainers.image.title=Airlock box"
"""Label of our images, which one that lost its name to a later build still has."""


def find_directories(*, live_too: bool = False) -> list[Leftover]:
    """The stores of the state directory, and the build directories. Those of dead processes go, with `live_too` all."""
    stores = find_owned(state_dir() / "store", STORE_PREFIX, "store", live_too=live_too)
    return stores + find_owned(temp_dir(), PREFIX, "build", live_too=live_too)


async def find_in_engine(
    engine: Engine, *, images: bool = False, all_images: bool = False, live_too: bool = False
) -> list[Leftover]:
    """What lies in an engine.

    Args:
        engine: It stays open until what was found is removed.
        images: Look at images too; those that this version does not need go.
        all_images: All of ours go.
        live_too: Boxes go also where their owner lives or can't be looked at.

    Raises:
        EngineUnavailable: It does not answer.
    """
    boxes = await find_boxes(engine, live_too=live_too)
    going = {box.name for box in boxes if box.remove is not None}
    try:
        found = await asyncio.to_thread(_images, engine.api, going, all_images=all_images) if images else []
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise EngineUnavailable(f"the container engine does not answer: {error}") from error
    return boxes + found


def _images(client: docker.APIClient, going: Collection[str], *, all_images: bool) -> list[Leftover]:
    """Those that stand on others come first. The last name of one that a container runs from can't be removed.

    Args:
        client: The engine's.
        going: Boxes that are removed before the images.
        all_images: Those that this version needs go too.
    """
    used = {str(c["ImageID"]) for c in client.containers(all=True) if c["Id"][:SHORT_ID] not in going}
    architecture = architecture_of(client)
    needed = {image_tag(architecture, name) for name in REPOSITORIES} | {made_base(architecture)}
    nameless = client.images(filters={"dangling": True, "label": _TITLE})
    found = [
        _image(client, str(image["Id"]), image["Id"] in used, "a later build has taken its name") for image in nameless
    ]
    images = client.images()
    ours = {tag: image for name in _REPOSITORIES for tag, image in sorted(_tags(images, name), key=itemgetter(0))}
    goes = {tag for tag in ours if all_images or tag not in needed}
    for tag, image in ours.items():
        if tag in goes:
            stays = image["Id"] in used and goes.issuperset(image["RepoTags"])
            found.append(_image(client, tag, stays, "of this version" if tag in needed else "of another version"))
        else:
            found.append(Leftover(kind="image", name=tag, why="this version needs it"))
    return found


def _tags(images: list[dict[str, Any]], repository: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for image in images:
        for name in image["RepoTags"] or ():
            begin, _, tag = name.rpartition(":")
            if begin == repository and _TAG.fullmatch(tag):
                yield name, image


def _image(client: docker.APIClient, name: str, used: bool, why: str) -> Leftover:
    if used:
        return Leftover(kind="image", name=name, why="a box runs from it")
    return Leftover(kind="image", name=name, why=why, remove=partial(asyncio.to_thread, _remove_image, client, name))


def _remove_image(client: docker.APIClient, name: str) -> str:
    try:
        client.remove_image(name)
    except docker.errors.ImageNotFound:
        return ""
    except (docker.errors.DockerException, requests.RequestException) as error:
        return f"the engine keeps it: {getattr(error, 'explanation', None) or error}"[:300]
    return ""
