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
data=$shared
name=$(printf %s "${JUPYTERHUB_SERVER_NAME:-}" | tr -c 'A-Za-z0-9' -)
if [ -n "$name" ]; then
    data=$HOME/.local/share/code-server-sessions/$name
    mkdir -p "$data/User" "$shared/User/snippets"
    for part in settings.json keybindings.json tasks.json snippets; do
        if [ ! -e "$data/User/$part" ] && [ ! -L "$data/User/$part" ]; then
            ln -s "$shared/User/$part" "$data/User/$part"
        fi
    done
fi

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
    --user-data-dir "$data" --extensions-dir "$shared/extensions" --disable-telemetry --disable-update-check \
    --disable-getting-started-override --disable-workspace-trust --disable-proxy --app-name Code-Server "$HOME"
