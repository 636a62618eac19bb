# bash completion of irisctl; made by python -m iris.ctl.completion bash
_irisctl() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} words
    COMPREPLY=()
    if [[ $previous == --file ]]; then
        COMPREPLY=($(compgen -f -- "$current"))
        return
    elif [[ $previous == --format ]]; then
        COMPREPLY=($(compgen -W "raw text hex json" -- "$current"))
        return
    fi
    case ${COMP_WORDS[1]} in
        request) words="-h --help --port --verbose --file --lines --count --rate --quiet --timeout --format" ;;
        serve) words="-h --help --port --verbose --exec --echo --timeout --jobs --count --format" ;;
        broadcast) words="-h --help --port --verbose --file --lines --count --rate --quiet" ;;
        publish) words="-h --help --port --verbose --file --lines --count --rate --quiet" ;;
        subscribe) words="-h --help --port --verbose --count --timeout --format" ;;
        tunnel) words="-h --help --port --verbose --accept --listen --connect --send --receive --linger --timeout --quiet" ;;
        bench) words="-h --help --port --verbose --duration --count --jobs --size --json" ;;
        check) words="" ;;
    esac
    if ((COMP_CWORD == 1)); then
        words="request serve broadcast publish subscribe tunnel bench check -h --help --version"
    fi
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -F _irisctl irisctl
