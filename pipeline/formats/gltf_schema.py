"""The parts of glTF 2.0 that a mesh is made of (Khronos, "glTF 2.0 Specification", section 5).

Names are glTF's own; everything else a document holds is left aside.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, FiniteFloat

Index = Annotated[int, Field(ge=0, lt=1 << 53)]


class Asset(BaseModel):
    version: str


class Buffer(BaseModel):
    byteLength: Index
    uri: str | None = None


class BufferView(BaseModel):
    buffer: Index
    byteOffset: Index = 0
    byteLength: Index
    byteStride: Annotated[int, Field(ge=4, le=252)] | None = None


class Accessor(BaseModel):
    bufferView: Index | None = None
    byteOffset: Index = 0
    componentType: Literal[5120, 5121, 5122, 5123, 5125, 5126]
    normalized: bool = False
    count: Annotated[int, Field(ge=1, lt=1 << 53)]
    type: str
    sparse: Any = None


class Draco(BaseModel):
    bufferView: Index
    attributes: dict[str, Index]


class PrimitiveExtensions(BaseModel):
    KHR_draco_mesh_compression: Draco | None = None


class Primitive(BaseModel):
    attributes: dict[str, Index]
    indices: Index | None = None
    material: Index | None = None
    mode: Annotated[int, Field(ge=0, le=6)] = 4
    extensions: PrimitiveExtensions = PrimitiveExtensions()


class Mesh(BaseModel):
    primitives: list[Primitive]
    weights: list[FiniteFloat] = []


class Node(BaseModel):
    children: list[Index] = []
    mesh: Index | None = None
    skin: Index | None = None
    weights: list[FiniteFloat] = []
    matrix: Annotated[list[FiniteFloat], Field(min_length=16, max_length=16)] | None = None
    translation: tuple[FiniteFloat, FiniteFloat, FiniteFloat] = (0, 0, 0)
    rotation: tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat] = (0, 0, 0, 1)
    scale: tuple[FiniteFloat, FiniteFloat, FiniteFloat] = (1, 1, 1)


class Scene(BaseModel):
    nodes: list[Index] = []


class TextureTransform(BaseModel):
    offset: tuple[FiniteFloat, FiniteFloat] = (0, 0)
    rotation: FiniteFloat = 0
    scale: tuple[FiniteFloat, FiniteFloat] = (1, 1)
    texCoord: Index | None = None


class TextureExtensions(BaseModel):
    KHR_texture_transform: TextureTransform | None = None


class TextureInfo(BaseModel):
    index: Index
    texCoord: Index = 0
    extensions: TextureExtensions = TextureExtensions()


class Shading(BaseModel):
    baseColorTexture: TextureInfo | None = None


class Material(BaseModel):
    pbrMetallicRoughness: Shading = Shading()


class Texture(BaseModel):
    source: Index | None = None


class Image(BaseModel):
    uri: str | None = None
    bufferView: Index | None = None


class Document(BaseModel):
    asset: Asset
    extensionsRequired: list[str] = []
    scene: Index = 0
    scenes: list[Scene] = []
    nodes: list[Node] = []
    meshes: list[Mesh] = []
    accessors: list[Accessor] = []
    bufferViews: list[BufferView] = []
    buffers: list[Buffer] = []
    materials: list[Material] = []
    textures: list[Texture] = []
    images: list[Image] = []
