"""`pathcast verify`: what came out, held against a replay of what went in. Publishes, commits and claims nothing."""
