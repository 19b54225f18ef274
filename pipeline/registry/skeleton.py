"""The file that `facefold sources new ID` starts a source with."""

from __future__ import annotations

import re

from pipeline.errors import RegistryError

_TEMPLATE = """\
# yaml-language-server: $schema=schema.json
# Replace every FILL and check the rest; `facefold sources check {id}.yaml --root FOLDER` helps.
id: {id}
title: FILL
version: "FILL"
verified: false # true once every fact below was checked on the data
unconfirmed: [all of it]

licence:
  name: FILL
  url: FILL
  redistribution: false
  commercial: false
citation: FILL
access: FILL # how to get the data

metric: true # false: rescaled; recoverable: true size needs a factor given elsewhere

scans:
  include: ["**/*.obj"] # globs relative to the root
  # The whole relative path. Other groups: session, expression, frame, or any that is used below.
  name: '(?P<subject>[^/]+)/(?P<expression>[^/]+)\\.obj'
  exclude: [] # - {{pattern: "broken/**", reason: why}}
  companions: ["**/*.mtl", "**/*.jpg", "**/*.png"] # files that belong to scans
  examples:
    anna/neutral.obj: {{subject: anna, expression: neutral}}

format: obj
unit: FILL # mm, cm, m, inch, or auto
axes: {{up: +y, forward: +z}} # of the file: up the head, out of the face; or: unknown

landmarks: none
# landmarks: {{file: "{{dir}}/{{stem}}.pp", format: pp, scheme: FILL, required: false}}
images: [] # ["{{dir}}/{{stem}}.jpg"]

neutral: [neutral] # values of the group expression; or: all
benchmark: null # the benchmark its people belong to, which keeps them out of training
subjects:
  same_as: {{}} # anna: other_source:a17
"""


def new_registry(id: str) -> str:
    """A commented source file that loads once every FILL is replaced; RegistryError: a bad id."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", id):
        raise RegistryError(
            [f"{id}.yaml: id: got {id!r}, expected small letters, digits and _, a letter first"]
        )
    return _TEMPLATE.format(id=id)
