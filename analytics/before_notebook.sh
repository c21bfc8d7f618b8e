# Sourced by the Jupyter image before it starts: what the project's programs need, and PostgreSQL's password where
# every client of it looks.
pip install --quiet --requirement /home/jovyan/sparkify/analytics/requirements.txt
(
    umask 077
    # a colon or a backslash in the password would end it early
    printf '%s:*:*:%s:%s\n' "$PGHOST" "$PGUSER" "$(sed 's/[:\\]/\\&/g' "${PGPASSWORD_SECRET:-/run/secrets/postgres_password}")" > "$HOME/.pgpass"
)
