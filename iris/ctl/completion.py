"""Completion for shells, made from the parser.

`python -m iris.ctl.completion bash|zsh`, kept in deploy/completion.
"""

import argparse
import sys

from iris.ctl.parser import Parser, build


def commands(parser: Parser) -> dict[str, tuple[str, list[str]]]:
    """Each subcommand with what it does and its flags."""
    sub = next(
        action for action in parser._actions if isinstance(action, argparse._SubParsersAction)
    )
    helps = {choice.dest: choice.help or "" for choice in sub._choices_actions}
    return {
        name: (helps[name], [flag for action in each._actions for flag in action.option_strings])
        for name, each in sub.choices.items()
    }


def bash(parser: Parser) -> str:
    """A file for bash-completion's directory."""
    known = commands(parser)
    cases = "\n".join(
        f'        {name}) words="{" ".join(flags)}" ;;' for name, (_, flags) in known.items()
    )
    return f"""# bash completion of irisctl; made by python -m iris.ctl.completion bash
_irisctl() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}} words
    COMPREPLY=()
    if [[ $previous == --file ]]; then
        COMPREPLY=($(compgen -f -- "$current"))
        return
    elif [[ $previous == --format ]]; then
        COMPREPLY=($(compgen -W "raw text hex json" -- "$current"))
        return
    fi
    case ${{COMP_WORDS[1]}} in
{cases}
    esac
    if ((COMP_CWORD == 1)); then
        words="{" ".join(known)} -h --help --version"
    fi
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -F _irisctl irisctl
"""


def zsh(parser: Parser) -> str:
    """A file for a directory of zsh's fpath."""
    known = commands(parser)
    names = "\n".join(f"        '{name}:{text}'" for name, (text, _) in known.items())
    cases = "\n".join(
        f"        {name}) compadd -- {' '.join(flags)} ;;" for name, (_, flags) in known.items()
    )
    return f"""#compdef irisctl
# made by python -m iris.ctl.completion zsh
_irisctl() {{
    local -a known=(
{names}
    )
    if ((CURRENT == 2)); then
        _describe command known
        compadd -- -h --help --version
        return
    fi
    case $words[CURRENT-1] in
        --file) _files; return ;;
        --format) compadd raw text hex json; return ;;
    esac
    case $words[2] in
{cases}
    esac
}}
_irisctl "$@"
"""


if __name__ == "__main__":
    print({"bash": bash, "zsh": zsh}[sys.argv[1]](build()), end="")
