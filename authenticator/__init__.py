"""Who comes in: LDAP password and one-time code, decided in one place."""
