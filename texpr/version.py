"""The version of this package: read by the packaging, and recorded in every bundle."""

VERSION = "0.1.0"
