#!/bin/bash
# Runs inside the guest, as the unit `egresswatch-test.service`, after systemd has started the monitor with the
# shipped unit. Says each fact it finds; the first that is missing fails the test.
set -u
exec >/dev/ttyS0 2>&1

fail() {
    echo "FAILED: $*"
    systemctl status --no-pager --lines 0 egresswatch
    journalctl --no-pager -u egresswatch -o cat | cut -c -300 | tail -n 20
    echo 1 >/dev/ttyS1
    systemctl poweroff --force
    exit 1
}
value() { systemctl show --value --property "$1" egresswatch; }
# Waits for a fact, not for a time: the deadline is for hosts that emulate slowly.
await() {
    local what=$1 deadline=$((SECONDS + 60))
    shift
    until "$@"; do
        ((SECONDS < deadline)) || fail "$what"
        sleep 0.2
    done
    echo "ok: $what"
}
records() { journalctl --no-pager -u egresswatch -o cat; }
alerted() { records | grep -q '"dataset":"egresswatch.alert".*120.232.0.1'; }
# By the message id of alerts, as deploy/siem/README.md has it.
native() {
    journalctl --no-pager -o json MESSAGE_ID=d37d735d4db242358332a02257cb95cd |
        grep '"EGRESSWATCH_EXECUTABLE":"/usr/local/bin/another-shell"' | grep -q '"EGRESSWATCH_DESTINATION_IP":"120.232.0.1"'
}
alive() { [[ $(value ActiveState) == active ]]; }
ended() { [[ $(value ActiveState) == "$1" ]]; }

await "the unit is active, which the monitor said itself" alive
[[ $(value Type) == notify ]] || fail "the unit is of type notify"

# An address of a listed operator that exists in this guest only.
ip link set lo up
ip address add 120.232.0.1/32 dev lo
# The socket stays open until the monitor was asked about it: a flow that ended is not live.
bash -c 'exec 3>/dev/udp/120.232.0.1/9; echo hello >&3; exec sleep 600' &
sender=$!
await "a datagram to a listed network is an alert in the journal" alerted
records | grep -q '"executable":"/usr/bin/bash"' || fail "the alert names the executable"
echo "ok: the alert names the executable"

egresswatch flows --json | grep -q 120.232.0.1 || fail "the control socket answers with the flow"
echo "ok: the control socket answers with the flow"
kill "$sender"
[[ $(stat -c %a /run/egresswatch) == 700 ]] || fail "the socket's directory is root's alone"

pid=$(value MainPID)
[[ $(sed -n 's/^CapBnd:\t//p' "/proc/$pid/status") == 000000c000081004 ]] || fail "the capabilities are the five named ones"
echo "ok: the capabilities are the five named ones"

systemctl reload egresswatch || fail "a reload is accepted"
alive || fail "the monitor survives a reload"

# An output that a reload brings, to the journal with its own fields.
printf '\n[outputs.journal]\ntype = "journald"\n' >>/etc/egresswatch/config.toml
systemctl reload egresswatch || fail "a reload takes an output in"
cp /usr/bin/bash /usr/local/bin/another-shell
/usr/local/bin/another-shell -c 'echo hello >/dev/udp/120.232.0.1/9'
await "an alert is in the journal with fields of its own" native
systemctl stop egresswatch
ended inactive || fail "the unit stops"
[[ $(value Result) == success ]] || fail "the unit stops well"
records | grep -q '"action":"monitor_stopped"' || fail "the last record says that it was a stop"
echo "ok: the unit stops well and says so"

echo 'rung = "base"' >/etc/egresswatch/config.toml
systemctl start egresswatch && fail "a wrong configuration keeps the unit from starting"
await "a wrong configuration ends in a failed unit" ended failed
[[ $(value ExecMainStatus) == 3 && $(value NRestarts) == 0 ]] || fail "exit code 3 is not restarted"
echo "ok: exit code 3 is not restarted"

echo 0 >/dev/ttyS1
systemctl poweroff --force
