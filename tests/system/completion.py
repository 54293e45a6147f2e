#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the shells complete and the manual explains, against what the program really takes: every verb, every option that the verb's
--help names (iscsiadm: that its table of options has), their choices, and lines of targetcli as its daemon knows them."""
import pathlib
import re
import shlex
import shutil

import harness as h
import targetd as d

COMPLETION = h.ROOT / "packaging/completion"
BREAKS = re.compile(r"([:=])")
IQN = "iqn.2026-11.io.perilune:completed"

BASH = r"""
source {script}
compopt() {{ :; }}
COMP_WORDS=({words}) COMP_CWORD={current} COMP_LINE={line} COMP_POINT=${{#COMP_LINE}}
"$(complete -p {command} | sed 's/.*-F \([^ ]*\) .*/\1/')"
printf '%s\n' "${{COMPREPLY[@]}}"
"""
# What compsys has for completion functions, as functions that print.
ZSH = r"""
compopt() {{ }}
compadd() {{
  local -a found
  while (( $# )); do
    case $1 in -S) shift ;; -a) shift; found+=(${{(P)1}}) ;; -*) ;; *) found+=("$1") ;; esac
    shift
  done
  print -rl -- $found
}}
_describe() {{ while [[ $1 == -* ]]; do [[ $1 == -t ]] && shift; shift; done; shift; print -rl -- ${{${{(P)1}}%%:*}} }}
_files() {{ print -rl -- files }}
words=({words}) CURRENT={current} PREFIX={prefix}
source {script}
"""


def verbs():
    overview = h.run([h.PERILUNE, "help"]).out
    found = re.findall(r"^  ([a-z-]+) ", overview[overview.index("Verbs:"):overview.index("Try it")], re.M)
    if "serve" not in found or len(found) < 10:
        h.fail(f"perilune help names {found}")
    return found


def options_of(verb):
    """As the program has them."""
    if verb in ("help", "version"):
        return set()
    if verb == "iscsiadm":
        table = re.findall(r'\{"([a-z_]+)", (?:required|no)_argument, nullptr, \'(\w)\'\}', (h.ROOT / "src/cli/iscsiadm/options.cpp").read_text())
        return {f"--{name}" for name, _ in table} | {f"-{letter}" for _, letter in table}
    found = set(re.findall(r"(?<![\w-])--?[A-Za-z][\w-]*", h.run([h.PERILUNE, verb, "--help"]).out))
    if len(found) < (0 if verb == "targetctl" else 2):
        h.fail(f"{verb} --help names only {found}")
    return found


def path_with_perilune(stack):
    """A folder with the program under its own name, for the scripts."""
    folder = h.temp_dir(stack)
    (folder / "perilune").symlink_to(h.PERILUNE)
    return {"PATH": f"{folder}:/usr/sbin:/usr/bin:/sbin:/bin"}


def bash(env, line):
    """What bash offers for the end of a line, whole words put together again as readline does."""
    words = [part for word in line.split(" ") for part in (BREAKS.split(word) if BREAKS.search(word) else [word]) if part or not word]
    script = BASH.format(script=COMPLETION / "perilune.bash", words=" ".join(map(shlex.quote, words)), current=len(words) - 1,
                         line=shlex.quote(line), command=words[0])
    return set(h.run(["bash", "--norc", "-c", script], env=env).out.split("\n")) - {""}


def zsh(env, line):
    words = line.split(" ")
    script = ZSH.format(script=COMPLETION / "_perilune", words=" ".join(map(shlex.quote, words)), current=len(words), prefix=shlex.quote(words[-1]))
    return set(h.run(["zsh", "-f", "-c", script], env=env).out.split("\n")) - {""}


def shells():
    return [shell for shell in (bash, zsh) if shutil.which(shell.__name__) or h.say(f"   {shell.__name__} is not installed")]


def every_verb_and_option_is_completed(stack):
    env = path_with_perilune(stack)
    for shell in shells():
        if missing := set(verbs()) - shell(env, "perilune "):
            h.fail(f"{shell.__name__} does not offer the verbs {sorted(missing)}")
        for verb in verbs():
            if missing := options_of(verb) - shell(env, f"perilune {verb} -"):
                h.fail(f"{shell.__name__} does not offer {sorted(missing)} of {verb}")
        if shell(env, "perilune version -"):
            h.fail(f"{shell.__name__} offers options that are none")


def values_are_completed(stack):
    env = path_with_perilune(stack)
    for shell in shells():
        for line, wanted in (("perilune serve --polling ", {"never", "adaptive", "always"}), ("perilune serve --block-size ", {"512", "4096"}),
                             ("perilune iscsiadm -m ", {"discovery", "node", "session"}), ("iscsiadm --op ", {"new", "delete", "update"}),
                             ("tgtadm --mode ", {"target", "logicalunit"}), ("targetctl ", {"save", "restore", "clear"})):
            if missing := wanted - shell(env, line):
                h.fail(f"{shell.__name__} does not offer {sorted(missing)} for {line!r}")


def lines_of_targetcli_are_completed_by_the_daemon(stack):
    daemon = d.Targetd(stack)
    env = path_with_perilune(stack) | {"PERILUNE_TARGETD_SOCKET": str(daemon.socket), "TARGETCLI_HOME": str(daemon.folder)}
    h.run([h.PERILUNE, "targetcli", "/iscsi", "create", IQN], env=env)
    # bash has cut the word at its colon: what is offered goes behind that
    wanted = ((bash, "perilune targetcli /isc", "/iscsi/"), (bash, "targetcli /iscsi/iqn.2026-11.io.perilune:comp", "completed/"),
              (bash, f"targetcli /iscsi/{IQN}/tpg1 set attribute authent", "authentication="),
              (zsh, "perilune targetcli /isc", "/iscsi/"), (zsh, f"targetcli /iscsi/{IQN[:-4]}", f"/iscsi/{IQN}/"))
    for shell, line, word in wanted:
        if shell in shells() and word not in (offered := shell(env, line)):
            h.fail(f"{shell.__name__} offers {offered} for {line!r}")
    daemon.stop()
    if bash(env, "targetcli /isc"):
        h.fail("a daemon that is not there offers words")


# --- manual pages ----------------------------------------------------------------------------------------------------

def page_of(verb):
    """The source of perilune-VERB, by the links of the package."""
    links = dict(line.split()[::-1] for line in (h.ROOT / "packaging/debian/perilune.links").read_text().splitlines() if "/man/" in line)
    for section in ("1", "8"):
        name = f"usr/share/man/man{section}/perilune-{verb}.{section}"
        page = pathlib.Path(links.get(name, name)).name
        for file in (page, page.removeprefix("perilune-")):
            if (path := h.ROOT / "docs/man" / file).is_file():
                return path
    h.fail(f"no manual page explains {verb}")


def options_in(page):
    """What stands behind Fl in mdoc(7)."""
    found = set()
    for line in page.read_text().splitlines():
        flags = False
        for word in line.lstrip(".").split():
            if word == "Fl":
                flags = True
            elif re.fullmatch(r"[A-Z][a-z]", word):
                flags = False   # another macro
            elif flags and re.match(r"-?\w", word):
                found.add(f"-{word}")
    return found


def every_option_is_in_the_manual(_):
    missing = {}
    for verb in verbs():
        page = page_of(verb)
        lacks = options_of(verb) - options_in(page) - {"-h", "--help"}   # perilune(1): every verb has it
        if lacks:
            missing[verb] = sorted(lacks)
    if missing:
        h.fail("\n".join(f"{page_of(verb).name} lacks {' '.join(lacks)} of {verb}" for verb, lacks in missing.items()))


h.need_perilune()
if __name__ == "__main__":
    h.main(every_verb_and_option_is_completed, values_are_completed, lines_of_targetcli_are_completed_by_the_daemon, every_option_is_in_the_manual)
