# SPDX-License-Identifier: Apache-2.0
# bash completion for perilune and for the names of perilune-compat; /usr/share/bash-completion/completions/perilune
#
# Verbs and options are asked from the program, so a new one is there at once; iscsiadm's help is open-iscsi's and no list. Lines of
# targetcli are completed by the daemon, as in its own shell.

_perilune_iscsiadm_options="-m --mode -t --type -p --portal -T --targetname -I --interface -l --login -u --logout -o --op -n --name
  -v --value -P --print -R --rescan -s --stats -S --show -L --loginall -U --logoutall -k --killiscsid -D --discover -r --sid -H --host
  -d --debug -W --no_wait -V --version -h --help -C --submode -a --ip -b --packetsize -c --count -i --interval -x --index
  -A --portal_type"

# Sets COMPREPLY to those of the words given that begin with $cur.
_perilune_words() { mapfile -t COMPREPLY < <(compgen -W "$*" -- "$cur"); }

_perilune_files() {
  compopt -o filenames 2>/dev/null
  mapfile -t COMPREPLY < <(compgen -f -- "$cur")
}

_perilune_verbs() { perilune help 2>/dev/null | sed -n '/^Verbs:/,/^$/s/^  \([a-z][a-z-]*\).*/\1/p'; }

_perilune_options() {  # VERB
  case $1 in
    iscsiadm) echo "$_perilune_iscsiadm_options" ;;
    *) perilune "$1" --help 2>/dev/null | grep -oE '(^|[[:space:],|[(])--?[a-zA-Z][a-z-]*' | tr -d ' ,|[(\t' ;;
  esac
}

# What the help of an option calls its choices: TEXT:{never,adaptive,always}
_perilune_choices() {  # VERB OPTION
  perilune "$1" --help 2>/dev/null | sed -nE "s/^ +(-[a-z],)?$2 [A-Z]+:\{([a-z0-9,]+)\}.*/\2/p" | tr , ' '
}

# The whole line before the cursor, from the first word of targetcli on: bash has cut it at colons.
_perilune_targetcli() {  # INDEX of the first word
  local line=${COMP_LINE:0:COMP_POINT} i word help
  for ((i = 0; i < $1; i++)); do line=${line#*"${COMP_WORDS[i]}"}; done
  line=${line#"${line%%[![:space:]]*}"}
  local last=${line##*[[:space:]]} own=$cur
  case $own in [:=]) own= ;; esac
  local cut=${last%"$own"}
  while IFS=$'\t' read -r word help; do
    case $word in "$cut"*) COMPREPLY+=("${word#"$cut"}") ;; esac
  done < <(perilune targetcli --complete "$line" 2>/dev/null)
  if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[/=] ]]; then compopt -o nospace 2>/dev/null; fi
}

_perilune() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} verb=${COMP_WORDS[1]} first=2 choices
  COMPREPLY=()
  if [ "${COMP_WORDS[0]##*/}" != perilune ]; then
    verb=${COMP_WORDS[0]##*/} first=1
  elif [ "$COMP_CWORD" -eq 1 ]; then
    _perilune_words "$(_perilune_verbs) --help --version"
    return
  fi
  if [ "$verb" = help ]; then
    _perilune_words "$(_perilune_verbs)"
    return
  fi
  case $verb:$prev in
    iscsiadm:-m|iscsiadm:--mode) _perilune_words discovery discoverydb node session iface host; return ;;
    iscsiadm:-t|iscsiadm:--type) _perilune_words sendtargets; return ;;
    iscsiadm:-o|iscsiadm:--op) _perilune_words new delete update show nonpersistent; return ;;
    iscsiadm:-P|iscsiadm:--print) _perilune_words 0 1 2 3; return ;;
    iscsiadm:-L|iscsiadm:--loginall|iscsiadm:-U|iscsiadm:--logoutall) _perilune_words all manual automatic onboot; return ;;
    iscsiadm:-T|iscsiadm:--targetname)
      _perilune_words "$(perilune iscsiadm -m node 2>/dev/null | awk '{print $2}' | sort -u)"; return ;;
    tgtadm:--mode|tgtadm:-m) _perilune_words target logicalunit account portal connection system; return ;;
    tgtadm:--op|tgtadm:-o) _perilune_words new delete show update bind unbind; return ;;
    tgtadm:--lld|tgtadm:-L) _perilune_words iscsi; return ;;
    tgt-admin:--update|tgt-admin:--delete|tgt-admin:--offline|tgt-admin:--ready) _perilune_words ALL; return ;;
    bench:--rw) _perilune_words randread randwrite read write; return ;;
    attach:--driver) _perilune_words auto ublk nbd fuse; return ;;
    *:--header-digest|*:--data-digest) _perilune_words crc32c none; return ;;
    *:--config|*:--state|*:--socket|*:--log|*:--pid|*:--port-groups|*:--run-dir|*:--conf|*:--file|*:--backing-store|*:*-secret-file)
      _perilune_files; return ;;
    *:--*)
      choices=$(_perilune_choices "$verb" "$prev")
      if [ -n "$choices" ]; then _perilune_words "$choices"; return; fi ;;
  esac
  if [[ $cur == -* ]]; then
    [ "$verb" = version ] || _perilune_words "$(_perilune_options "$verb")"
    return
  fi
  case $verb in
    targetcli) _perilune_targetcli "$first" ;;
    targetctl)
      if [ "$COMP_CWORD" -eq "$first" ]; then _perilune_words save restore clear; else _perilune_files; fi ;;
    serve|attach)
      _perilune_files
      mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -W "ram: null: cd: pscsi: iscsi://" -- "$cur") ;;
    detach) _perilune_words "$(ls -d /dev/ublkb[0-9]* /dev/nbd[0-9]* /dev/loop[0-9]* 2>/dev/null)" ;;
  esac
}
complete -F _perilune perilune targetcli targetctl tgtadm tgt-admin tgt-setup-lun tgtimg iscsiadm iscsid
