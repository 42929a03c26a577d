"""Graphs of common situations; ``CausalGraph.renamed`` fits them to a table's own columns."""

from __future__ import annotations

PRESETS = {
    # The sicker the patient, the likelier a bedside film, and severity itself shows in the image
    # (lines, tubes, posture): without a severity column this is not identified, as it should be.
    "portable_xray": """
        severity -> pneumonia; severity -> portable; severity -> image
        pneumonia -> image
        portable -> image; portable -> exposure! -> image
    """,
    # Hospitals differ in machines, in prevalence (label shift) and in age (case mix).
    "multi_site": """
        site -> disease; site -> age; age -> disease
        age -> image; disease -> image; site -> image
    """,
    # Slides thought to hold tumour are referred to the better scanner; labs stain differently.
    "slide_scanner": """
        tumour -> scanner; tumour -> image; scanner -> image
        lab -> scanner; lab -> stain! -> image
    """,
    # A dermatologist marks or measures the lesions thought to be malignant.
    "skin_marker": """
        malignant -> suspicion -> marker
        malignant -> image; marker -> image
    """,
}
