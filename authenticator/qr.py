"""QR codes as parts of a page."""

import segno
from markupsafe import Markup


def qr_code(text: str) -> Markup:
    """
    Draw a QR code as an SVG element.

    It is made here, so that no other server sees the secret, and coloured by attributes, so that it shows
    under a Content-Security-Policy without inline styles. The light ground stays light in dark mode: phones
    need it.
    """
    drawing = segno.make(text, micro=False, error="m")
    # What segno returns holds numbers and colours only, nothing of the text.
    return Markup(drawing.svg_inline(scale=5, dark="#000", light="#fff", svgclass="img-fluid rounded"))  # noqa: S704
