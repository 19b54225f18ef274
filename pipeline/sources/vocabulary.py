"""Words that tell what a part of a file name is."""

from __future__ import annotations


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


SPOKEN = {
    "subject": words(
        "subject subj sub person people participant actor tester user patient face head id "
        "identity speaker p s"
    ),
    "session": words(
        "session sess ses visit day date take recording spring summer autumn fall winter"
    ),
    "expression": words("expression expr exp emotion emo au pose blendshape task t"),
    "frame": words("frame fr scan img image shot capture cap no nr number"),
}
"""Group -> what often stands before its value."""
NEUTRAL = words("neutral neut neu rest relaxed ne n nh nn")
EXPRESSIONS = NEUTRAL | words(
    """smile smiling happy happiness joy sad sadness angry anger disgust disgusted fear afraid
    scared surprise surprised contempt open closed close mouth lip lips jaw cheek cheeks brow brows
    eye eyes nose kiss pucker blink wink frown scream shout talk speech grin puff puffed sneer yawn
    squint stretch funneler dimpler roll bareteeth laugh pain raise raiser lower tongue chin blow
    extreme phoneme mood rotation"""
)
CODES = words("an di fe ha ne sa su en ang dis fea hap sur")
"""Abbreviations of expressions that count only where several are seen."""
SEXES = {
    **dict.fromkeys(("f", "female", "women", "w"), "female"),
    **dict.fromkeys(("m", "male", "men"), "male"),
}
ROLES = words(
    """subject subjects person persons people participant participants scan scans mesh meshes raw
    registered registration registrations aligned alignment alignments fit fits fitted fitting
    fittings wrapped wraps retopo retopology remeshed atlas atlases template templates reference
    references mean average source sources target targets original originals clean cleaned processed
    result results output outputs input inputs gt groundtruth truth prediction predictions
    reconstruction reconstructions reconstructed flame models train training val valid validation
    test testing lowres highres decimated simplified textured untextured cropped surface surfaces
    cloud clouds pointcloud pointclouds"""
)
"""What kind of file it is, or which part of a set: never whose."""
MONTHS = words("jan feb mar apr may jun jul aug sep oct nov dec")
