#!/bin/sh
# code-server-session SOCKET: Code-Server for the session of one person, called by jupyter-server-proxy.
#
# It has no login of its own (--auth none), so it must never listen on a TCP port, which every user of the node could
# open. It listens on a socket in a folder that only its owner can enter; whoever comes through it has passed the hub.
set -eu
socket=$1
case $socket in
    /*) ;;
    *) echo "code-server-session: the socket has to be a full path, not '$socket'" >&2; exit 64 ;;
esac

# A named session has a state of its own: what is open, and what extensions store, which two at once would spoil for each
# other. Extensions, settings, keys and snippets are the person's, the same in all.
shared=$HOME/.local/share/code-server
extensions=$shared/extensions
name=$(printf %s "${JUPYTERHUB_SERVER_NAME:-}" | tr -c 'A-Za-z0-9' -)
data=$shared
[ -z "$name" ] || data=$HOME/.local/share/code-server-sessions/$name

# A home that is full or in disorder must not keep its owner out: the state of this session goes to its private /tmp.
if ! { mkdir -p "$data/Machine" "$data/User" "$shared/User/snippets" \
    && head -c 4096 /dev/zero > "$data/.probe.$$"; } 2>/dev/null; then
    rm -f "$data/.probe.$$" 2>/dev/null || true
    echo "code-server-session: $data cannot be written, settings are kept till the session's end only" >&2
    data=/tmp/.carme-home/code-server
    mkdir -p "$data"
    [ -r "$extensions" ] || extensions=$data/extensions
elif [ -n "$name" ]; then
    for part in settings.json keybindings.json tasks.json snippets; do
        if [ ! -e "$data/User/$part" ] && [ ! -L "$data/User/$part" ]; then
            ln -s "$shared/User/$part" "$data/User/$part"
        fi
    done
fi
rm -f "$data/.probe.$$"
# Which extensions come with Code-Server is remembered, and would be believed after a change of the image.
rm -f "$data"/CachedProfilesData/*/extensions.builtin.cache 2>/dev/null || true

# What a person who has not chosen anything yet sees: the files of the home, no panel of an assistant that is not there.
if [ ! -e "$data/Machine/settings.json" ]; then
    mkdir -p "$data/Machine"
    cp /opt/code-server/settings.json "$data/Machine/settings.json"
fi

# Only the flags below count: neither a configuration in the home nor the environment may open a port or set a password.
# The second socket (which the command in a terminal uses) lies beside the first: the home, where it would be, may be
# shared by sessions on several nodes, and may be a file system without sockets.
# Code-Server forwards no port itself: it would not ask whose program is there. Its list of ports leads to the server's
# own way (carme_session/forward.py).
VSCODE_PROXY_URI="${JUPYTERHUB_SERVICE_PREFIX:-/}proxy/{{port}}/"
export VSCODE_PROXY_URI
unset PORT PASSWORD HASHED_PASSWORD CODE_SERVER_CONFIG CODE_SERVER_HOST CODE_SERVER_SOCKET
exec /opt/code-server/bin/code-server \
    --config /dev/null --auth none --socket "$socket" --socket-mode 600 --session-socket "$socket.session" \
    --user-data-dir "$data" --extensions-dir "$extensions" --disable-telemetry --disable-update-check \
    --disable-getting-started-override --disable-workspace-trust --disable-proxy --app-name Code-Server "$HOME"
