"""Intake: from folders, text files, line files and Batch request files to pieces with exact offsets and counts."""

from corpusmill.intake.batch_file import first_request, requests, scan_requests, validate_requests
from corpusmill.intake.chunker import CHUNKER_VERSION
from corpusmill.intake.cutting import Document, digest_of, documents, line_of, name_of
from corpusmill.intake.pool import pieces
from corpusmill.intake.scanning import digests_key, scan
from corpusmill.intake.shapes import (
    EMBEDDING_LIMIT_TOKENS,
    BadLine,
    Chunking,
    Findings,
    LeftOut,
    Piece,
    Place,
    Reading,
    RequestLine,
    Scan,
    SourceFile,
)
from corpusmill.intake.validating import validate

__all__ = [
    "CHUNKER_VERSION",
    "EMBEDDING_LIMIT_TOKENS",
    "BadLine",
    "Chunking",
    "Document",
    "Findings",
    "LeftOut",
    "Piece",
    "Place",
    "Reading",
    "RequestLine",
    "Scan",
    "SourceFile",
    "digest_of",
    "digests_key",
    "documents",
    "first_request",
    "line_of",
    "name_of",
    "pieces",
    "requests",
    "scan",
    "scan_requests",
    "validate",
    "validate_requests",
]
