# SPDX-License-Identifier: Apache-2.0
"""C++ text with its comments, or its comments and literals, blanked out; offsets and line numbers stay as they were."""
import re

_TOKEN = re.compile(
    r'//[^\n]*|/\*.*?\*/'                       # comments
    r'|R"([^()\\\s]{0,16})\(.*?\)\1"'           # raw strings
    r'|"(?:\\.|[^"\\\n])*"'                     # strings
    r"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'",    # characters, but not digit separators
    re.S)


def _blank(text):
    return re.sub(r"[^\n]", " ", text)


def strip_comments(text):
    return _TOKEN.sub(lambda m: _blank(m.group(0)) if m.group(0).startswith("/") else m.group(0), text)


def strip_comments_and_strings(text):
    return _TOKEN.sub(lambda m: _blank(m.group(0)), text)
