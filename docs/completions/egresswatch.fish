# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_egresswatch_global_optspecs
    string join \n color= h/help V/version
end

function __fish_egresswatch_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_egresswatch_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_egresswatch_using_subcommand
    set -l cmd (__fish_egresswatch_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c egresswatch -n "__fish_egresswatch_needs_command" -l color -d 'When to use colours; NO_COLOR is honoured' -r -f -a "auto\t''
always\t''
never\t''"
complete -c egresswatch -n "__fish_egresswatch_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c egresswatch -n "__fish_egresswatch_needs_command" -s V -l version -d 'Print version'
complete -c egresswatch -n "__fish_egresswatch_needs_command" -f -a "run" -d 'Monitor this host until SIGTERM or SIGINT'
complete -c egresswatch -n "__fish_egresswatch_needs_command" -f -a "lookup" -d 'Say who owns an address or network, and which lists name it or a domain'
complete -c egresswatch -n "__fish_egresswatch_needs_command" -f -a "lists" -d 'Show the lists of flagged infrastructure, or what one of them holds'
complete -c egresswatch -n "__fish_egresswatch_needs_command" -f -a "status" -d 'Show how the running daemon is'
complete -c egresswatch -n "__fish_egresswatch_needs_command" -f -a "alerts" -d 'Show the last alerts of the running daemon'
complete -c egresswatch -n "__fish_egresswatch_needs_command" -f -a "flows" -d 'Show the live flows of the running daemon'
complete -c egresswatch -n "__fish_egresswatch_needs_command" -f -a "reload" -d 'Let the running daemon take its configuration, lists and data in anew'
complete -c egresswatch -n "__fish_egresswatch_needs_command" -f -a "doctor" -d 'Say what this host gives the monitor, what is missing and what to do'
complete -c egresswatch -n "__fish_egresswatch_needs_command" -f -a "coverage" -d 'Say which ways to send are seen on this host, and which are not'
complete -c egresswatch -n "__fish_egresswatch_needs_command" -f -a "data" -d 'See and replace the data about who owns addresses'
complete -c egresswatch -n "__fish_egresswatch_needs_command" -f -a "check" -d 'Check a configuration file, and the lists, rules, certificates and secrets that it names'
complete -c egresswatch -n "__fish_egresswatch_needs_command" -f -a "test-rules" -d 'Run recorded flows through lists and rules, and say which would have told of what'
complete -c egresswatch -n "__fish_egresswatch_needs_command" -f -a "config" -d 'Print the default configuration, with comments'
complete -c egresswatch -n "__fish_egresswatch_needs_command" -f -a "completions" -d 'Print completions for a shell'
complete -c egresswatch -n "__fish_egresswatch_needs_command" -f -a "man" -d 'Print the man page'
complete -c egresswatch -n "__fish_egresswatch_using_subcommand run" -s c -l config -d 'Configuration file, which must exist [default: /etc/egresswatch/config.toml if it exists]' -r -F
complete -c egresswatch -n "__fish_egresswatch_using_subcommand run" -s o -l output -d 'Append JSON Lines to FILE; on a terminal, lines for people go on' -r -F
complete -c egresswatch -n "__fish_egresswatch_using_subcommand run" -l rung -d 'Which kernel programs to attach, whatever the configuration says' -r -f -a "auto\t'The best rung that this kernel has'
base\t'Only the cgroup hooks: Linux 5.10 and later'
fexit\t'The cgroup hooks and the exits of the send and receive functions: Linux 5.10 and later'
sender\t'The cgroup hooks and the socket send and receive tracepoints: Linux 6.3 and later'"
complete -c egresswatch -n "__fish_egresswatch_using_subcommand run" -l log-format -d 'Form of the diagnostics on standard error' -r -f -a "text\t'Lines for people'
json\t'JSON Lines'"
complete -c egresswatch -n "__fish_egresswatch_using_subcommand run" -l color -d 'When to use colours; NO_COLOR is honoured' -r -f -a "auto\t''
always\t''
never\t''"
complete -c egresswatch -n "__fish_egresswatch_using_subcommand run" -l flows -d 'Also write every flow that ends, and long ones on a schedule'
complete -c egresswatch -n "__fish_egresswatch_using_subcommand run" -l json -d 'Write JSON Lines to standard output, also on a terminal'
complete -c egresswatch -n "__fish_egresswatch_using_subcommand run" -s v -l verbose -d 'Tell more on standard error; twice also what the kernel programs do'
complete -c egresswatch -n "__fish_egresswatch_using_subcommand run" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c egresswatch -n "__fish_egresswatch_using_subcommand lookup" -s c -l config -d 'Configuration file, for its lists [default: /etc/egresswatch/config.toml if it exists]' -r -F
complete -c egresswatch -n "__fish_egresswatch_using_subcommand lookup" -l color -d 'When to use colours; NO_COLOR is honoured' -r -f -a "auto\t''
always\t''
never\t''"
complete -c egresswatch -n "__fish_egresswatch_using_subcommand lookup" -l json -d 'Write one JSON object'
complete -c egresswatch -n "__fish_egresswatch_using_subcommand lookup" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c egresswatch -n "__fish_egresswatch_using_subcommand lists" -s c -l config -d 'Configuration file, for its lists [default: /etc/egresswatch/config.toml if it exists]' -r -F
complete -c egresswatch -n "__fish_egresswatch_using_subcommand lists" -l color -d 'When to use colours; NO_COLOR is honoured' -r -f -a "auto\t''
always\t''
never\t''"
complete -c egresswatch -n "__fish_egresswatch_using_subcommand lists" -l json -d 'Write JSON Lines, one object a list; of one list also its entries'
complete -c egresswatch -n "__fish_egresswatch_using_subcommand lists" -s h -l help -d 'Print help'
complete -c egresswatch -n "__fish_egresswatch_using_subcommand status" -l socket -d 'The daemon\'s socket' -r -F
complete -c egresswatch -n "__fish_egresswatch_using_subcommand status" -l color -d 'When to use colours; NO_COLOR is honoured' -r -f -a "auto\t''
always\t''
never\t''"
complete -c egresswatch -n "__fish_egresswatch_using_subcommand status" -l json -d 'Write one JSON object'
complete -c egresswatch -n "__fish_egresswatch_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c egresswatch -n "__fish_egresswatch_using_subcommand alerts" -l since -d 'Only those of the last while, such as 90s, 15m, 1h or 7d' -r
complete -c egresswatch -n "__fish_egresswatch_using_subcommand alerts" -l filter -d 'Only those that meet a condition on a field: process.name=curl, egresswatch.lists~ofac, source.bytes>1000; may be given several times, and then all have to be met' -r
complete -c egresswatch -n "__fish_egresswatch_using_subcommand alerts" -l socket -d 'The daemon\'s socket' -r -F
complete -c egresswatch -n "__fish_egresswatch_using_subcommand alerts" -l color -d 'When to use colours; NO_COLOR is honoured' -r -f -a "auto\t''
always\t''
never\t''"
complete -c egresswatch -n "__fish_egresswatch_using_subcommand alerts" -s f -l follow -d 'Go on, and show each alert when it is told'
complete -c egresswatch -n "__fish_egresswatch_using_subcommand alerts" -l json -d 'Write JSON Lines, one record an alert'
complete -c egresswatch -n "__fish_egresswatch_using_subcommand alerts" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c egresswatch -n "__fish_egresswatch_using_subcommand flows" -l filter -d 'Only those that meet a condition on a field, as in `egresswatch alerts`' -r
complete -c egresswatch -n "__fish_egresswatch_using_subcommand flows" -l socket -d 'The daemon\'s socket' -r -F
complete -c egresswatch -n "__fish_egresswatch_using_subcommand flows" -l color -d 'When to use colours; NO_COLOR is honoured' -r -f -a "auto\t''
always\t''
never\t''"
complete -c egresswatch -n "__fish_egresswatch_using_subcommand flows" -l json -d 'Write JSON Lines, one record a flow'
complete -c egresswatch -n "__fish_egresswatch_using_subcommand flows" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c egresswatch -n "__fish_egresswatch_using_subcommand reload" -l socket -d 'The daemon\'s socket' -r -F
complete -c egresswatch -n "__fish_egresswatch_using_subcommand reload" -l color -d 'When to use colours; NO_COLOR is honoured' -r -f -a "auto\t''
always\t''
never\t''"
complete -c egresswatch -n "__fish_egresswatch_using_subcommand reload" -l json -d 'Write one JSON object'
complete -c egresswatch -n "__fish_egresswatch_using_subcommand reload" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c egresswatch -n "__fish_egresswatch_using_subcommand doctor" -l color -d 'When to use colours; NO_COLOR is honoured' -r -f -a "auto\t''
always\t''
never\t''"
complete -c egresswatch -n "__fish_egresswatch_using_subcommand doctor" -l json -d 'Write one JSON object'
complete -c egresswatch -n "__fish_egresswatch_using_subcommand doctor" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c egresswatch -n "__fish_egresswatch_using_subcommand coverage" -l color -d 'When to use colours; NO_COLOR is honoured' -r -f -a "auto\t''
always\t''
never\t''"
complete -c egresswatch -n "__fish_egresswatch_using_subcommand coverage" -l json -d 'Write one JSON object, with every rung'
complete -c egresswatch -n "__fish_egresswatch_using_subcommand coverage" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c egresswatch -n "__fish_egresswatch_using_subcommand data; and not __fish_seen_subcommand_from info import update" -l color -d 'When to use colours; NO_COLOR is honoured' -r -f -a "auto\t''
always\t''
never\t''"
complete -c egresswatch -n "__fish_egresswatch_using_subcommand data; and not __fish_seen_subcommand_from info import update" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c egresswatch -n "__fish_egresswatch_using_subcommand data; and not __fish_seen_subcommand_from info import update" -f -a "info" -d 'Say which table is in force, of which day and of what it was made'
complete -c egresswatch -n "__fish_egresswatch_using_subcommand data; and not __fish_seen_subcommand_from info import update" -f -a "import" -d 'Make a table of files that you have, and put it in force'
complete -c egresswatch -n "__fish_egresswatch_using_subcommand data; and not __fish_seen_subcommand_from info import update" -f -a "update" -d 'Import from data.sources of the configuration'
complete -c egresswatch -n "__fish_egresswatch_using_subcommand data; and __fish_seen_subcommand_from info" -s c -l config -d 'Configuration file [default: /etc/egresswatch/config.toml if it exists]' -r -F
complete -c egresswatch -n "__fish_egresswatch_using_subcommand data; and __fish_seen_subcommand_from info" -l color -d 'When to use colours; NO_COLOR is honoured' -r -f -a "auto\t''
always\t''
never\t''"
complete -c egresswatch -n "__fish_egresswatch_using_subcommand data; and __fish_seen_subcommand_from info" -l json -d 'Write one JSON object'
complete -c egresswatch -n "__fish_egresswatch_using_subcommand data; and __fish_seen_subcommand_from info" -s h -l help -d 'Print help'
complete -c egresswatch -n "__fish_egresswatch_using_subcommand data; and __fish_seen_subcommand_from import" -l format -d 'Form of the files, where their content is not to tell it' -r -f -a "mmdb\t'MaxMind DB, with the keys of GeoLite2, DB-IP, IPinfo Lite, IPLocate or ip-location-db'
iptoasn\t'Lines of first and last address, AS number, country and name, split by tabs, as iptoasn.com gives them'
range-csv\t'Comma-separated values that begin with a first and a last address'
cidr-csv\t'Comma-separated values that begin with a prefix'
pyasn\t'Lines of a prefix and an AS number, as pyasn writes them'
table\t'A table that this program wrote'"
complete -c egresswatch -n "__fish_egresswatch_using_subcommand data; and __fish_seen_subcommand_from import" -l date -d 'Date of the data [default: that of the oldest file with networks]' -r
complete -c egresswatch -n "__fish_egresswatch_using_subcommand data; and __fish_seen_subcommand_from import" -s o -l output -d 'Where to write the table [default: data.table of the configuration]' -r -F
complete -c egresswatch -n "__fish_egresswatch_using_subcommand data; and __fish_seen_subcommand_from import" -s c -l config -d 'Configuration file [default: /etc/egresswatch/config.toml if it exists]' -r -F
complete -c egresswatch -n "__fish_egresswatch_using_subcommand data; and __fish_seen_subcommand_from import" -l color -d 'When to use colours; NO_COLOR is honoured' -r -f -a "auto\t''
always\t''
never\t''"
complete -c egresswatch -n "__fish_egresswatch_using_subcommand data; and __fish_seen_subcommand_from import" -l alone -d 'Take nothing from the embedded table: what the files do not say is not known'
complete -c egresswatch -n "__fish_egresswatch_using_subcommand data; and __fish_seen_subcommand_from import" -l dry-run -d 'Say what would be, and change nothing'
complete -c egresswatch -n "__fish_egresswatch_using_subcommand data; and __fish_seen_subcommand_from import" -l rollback -d 'Bring back the table before; once more undoes it'
complete -c egresswatch -n "__fish_egresswatch_using_subcommand data; and __fish_seen_subcommand_from import" -l json -d 'Write one JSON object'
complete -c egresswatch -n "__fish_egresswatch_using_subcommand data; and __fish_seen_subcommand_from import" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c egresswatch -n "__fish_egresswatch_using_subcommand data; and __fish_seen_subcommand_from update" -s c -l config -d 'Configuration file [default: /etc/egresswatch/config.toml if it exists]' -r -F
complete -c egresswatch -n "__fish_egresswatch_using_subcommand data; and __fish_seen_subcommand_from update" -l color -d 'When to use colours; NO_COLOR is honoured' -r -f -a "auto\t''
always\t''
never\t''"
complete -c egresswatch -n "__fish_egresswatch_using_subcommand data; and __fish_seen_subcommand_from update" -l dry-run -d 'Say what would be, and change nothing'
complete -c egresswatch -n "__fish_egresswatch_using_subcommand data; and __fish_seen_subcommand_from update" -l json -d 'Write one JSON object'
complete -c egresswatch -n "__fish_egresswatch_using_subcommand data; and __fish_seen_subcommand_from update" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c egresswatch -n "__fish_egresswatch_using_subcommand check" -l color -d 'When to use colours; NO_COLOR is honoured' -r -f -a "auto\t''
always\t''
never\t''"
complete -c egresswatch -n "__fish_egresswatch_using_subcommand check" -l connect -d 'Also connect to every output and to every server that lists are fetched from, and say what answered; no record is sent'
complete -c egresswatch -n "__fish_egresswatch_using_subcommand check" -l json -d 'Write one JSON object'
complete -c egresswatch -n "__fish_egresswatch_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c egresswatch -n "__fish_egresswatch_using_subcommand test-rules" -l rules -d 'Rules instead of those that the configuration names: a file, or a directory of *.toml; may be repeated' -r -F
complete -c egresswatch -n "__fish_egresswatch_using_subcommand test-rules" -l enable -d 'Id of a rule of --rules to switch on, over what its file says; may be repeated' -r
complete -c egresswatch -n "__fish_egresswatch_using_subcommand test-rules" -l replay -d 'Recorded flows as JSON Lines; - for standard input' -r -F
complete -c egresswatch -n "__fish_egresswatch_using_subcommand test-rules" -s c -l config -d 'Configuration file, for its lists and rules [default: /etc/egresswatch/config.toml if it exists]' -r -F
complete -c egresswatch -n "__fish_egresswatch_using_subcommand test-rules" -l color -d 'When to use colours; NO_COLOR is honoured' -r -f -a "auto\t''
always\t''
never\t''"
complete -c egresswatch -n "__fish_egresswatch_using_subcommand test-rules" -l json -d 'Write JSON Lines: one object an alert, and one with the sums'
complete -c egresswatch -n "__fish_egresswatch_using_subcommand test-rules" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c egresswatch -n "__fish_egresswatch_using_subcommand config" -l color -d 'When to use colours; NO_COLOR is honoured' -r -f -a "auto\t''
always\t''
never\t''"
complete -c egresswatch -n "__fish_egresswatch_using_subcommand config" -s h -l help -d 'Print help'
complete -c egresswatch -n "__fish_egresswatch_using_subcommand completions" -l color -d 'When to use colours; NO_COLOR is honoured' -r -f -a "auto\t''
always\t''
never\t''"
complete -c egresswatch -n "__fish_egresswatch_using_subcommand completions" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c egresswatch -n "__fish_egresswatch_using_subcommand man" -l color -d 'When to use colours; NO_COLOR is honoured' -r -f -a "auto\t''
always\t''
never\t''"
complete -c egresswatch -n "__fish_egresswatch_using_subcommand man" -s h -l help -d 'Print help'
