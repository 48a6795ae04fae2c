# shellcheck shell=bash
# Both entrypoints source this. They have log and docker_process_sql.

# run_scripts reads shell scripts into this shell, where their mode does not say that they are to be run.
run_scripts() {
  local script
  # shellcheck disable=SC2034 # scripts use it
  mysql=(docker_process_sql)
  for script; do
    log Note "running $script"
    # shellcheck disable=SC1090 # the user's
    case $script in
      *.sh) if [ -x "$script" ]; then "$script"; else . "$script"; fi ;;
      *.sql) docker_process_sql <"$script" ;;
      *.sql.gz) gunzip -c "$script" | docker_process_sql ;;
      *) log Warn "ignoring $script" ;;
    esac
  done
}
