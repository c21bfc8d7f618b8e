# Sourced by the Jupyter image before it starts anything: leaves PostgreSQL's password where every
# client of PostgreSQL looks for it.
(
    umask 077
    secret=${PGPASSWORD_SECRET:-/run/secrets/postgres_password}
    # a colon or a backslash in the password would end it early
    password=$(sed 's/[:\\]/\\&/g' "$secret")
    printf '%s:*:*:%s:%s\n' "$PGHOST" "$PGUSER" "$password" > "$HOME/.pgpass"
)
