# SPDX-License-Identifier: Apache-2.0
# bash completion for perilune; install as /usr/share/bash-completion/completions/perilune
_perilune() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} verb=${COMP_WORDS[1]}
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    mapfile -t COMPREPLY < <(compgen -W "serve iscsiadm iscsid attach detach ls inq readcap bench help version" -- "$cur")
    return
  fi
  case "$verb:$prev" in
    iscsiadm:-m|iscsiadm:--mode)
      mapfile -t COMPREPLY < <(compgen -W "discovery discoverydb node session iface host" -- "$cur"); return ;;
    iscsiadm:-t|iscsiadm:--type) mapfile -t COMPREPLY < <(compgen -W "sendtargets" -- "$cur"); return ;;
    iscsiadm:-o|iscsiadm:--op)
      mapfile -t COMPREPLY < <(compgen -W "new delete update show nonpersistent" -- "$cur"); return ;;
    iscsiadm:-P|iscsiadm:--print) mapfile -t COMPREPLY < <(compgen -W "0 1 2 3" -- "$cur"); return ;;
    iscsiadm:-T|iscsiadm:--targetname)
      mapfile -t COMPREPLY < <(compgen -W "$(perilune iscsiadm -m node 2>/dev/null | awk '{print $2}')" -- "$cur"); return ;;
    bench:--rw) mapfile -t COMPREPLY < <(compgen -W "randread randwrite read write" -- "$cur"); return ;;
    *:--header-digest|*:--data-digest) mapfile -t COMPREPLY < <(compgen -W "crc32c none" -- "$cur"); return ;;
    serve:--polling|bench:--polling) mapfile -t COMPREPLY < <(compgen -W "never adaptive always" -- "$cur"); return ;;
    serve:--block-size) mapfile -t COMPREPLY < <(compgen -W "512 4096" -- "$cur"); return ;;
  esac
  if [[ $cur == -* ]]; then
    local options
    case "$verb" in
      iscsiadm) options="-m --mode -t --type -p --portal -T --targetname -I --interface -l --login -u --logout -o --op -n
                         --name -v --value -P --print -R --rescan -s --stats -S --show -L --loginall -U --logoutall -k -h -V" ;;
      help|version) options= ;;
      *) options=$(perilune "$verb" --help 2>/dev/null | grep -oE '(^| |,)--?[a-zA-Z][a-z-]*' | tr -d ' ,') ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
    return
  fi
  case "$verb" in
    serve|attach) mapfile -t COMPREPLY < <(compgen -f -- "$cur"; compgen -W "ram: null: iscsi://" -- "$cur") ;;
    detach) mapfile -t COMPREPLY < <(compgen -W "$(ls /dev/loop[0-9]* 2>/dev/null)" -- "$cur") ;;
  esac
}
complete -F _perilune perilune
