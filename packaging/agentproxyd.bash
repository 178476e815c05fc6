# bash completion for agentproxyd(8)
_agentproxyd()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}

	COMPREPLY=()
	case $prev in
	-c|--config)
		compopt -o filenames 2>/dev/null
		mapfile -t COMPREPLY < <(compgen -f -X '!*.y?(a)ml' -- "$cur"
					 compgen -d -- "$cur")
		return
		;;
	--explain)
		mapfile -t COMPREPLY < <(compgen -W "'GET 'POST 'PUT 'DELETE" \
					 -- "$cur")
		return
		;;
	esac
	if [[ ${COMP_WORDS[1]} == check-agent ]]; then
		mapfile -t COMPREPLY < <(compgen -W "--v1" -- "$cur"
					 compgen -f -- "$cur")
		return
	fi
	mapfile -t COMPREPLY < <(compgen -W "-c --config -t --test --explain \
		-V --version -h --help check-agent" -- "$cur")
}
complete -F _agentproxyd agentproxyd
