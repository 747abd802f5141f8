"""What is asked and what is kept: requests, settings, runs, the store of finished runs.

What other wings use:

request          `Request` (the flags), `Plan`, `Module` and `Evaluation`: what a request comes to
settings         `Hyper`: the settings of a training, from recipes and overrides
run              `Run`: what decides a training's outcome; its digest is the run's id
store            `Store`: finished runs, and runs that are being made under a lock; `verify`
records          spec.json, provenance.json, metrics.json and manifest.json as typed data, with
                 one reader (`read_record`) and one writer (`write_record`)
stored           `StoredRun`, `StoredModule`: what was written, read back; `list_runs`
lookup           `from_store`: the finished run that answers a plan
lineage          `check_lineage`: whether a module stands on what it was trained on
trackers         the experiment trackers of `--report-to`
planned_records  what is known of a run before it begins
run_card         the README.md of a run
run_index        `RunIndex`: every run of a store, whatever its state, and which stands on which
run_filters      `select`: the runs that fit filters such as `task=xnli`
removal          `remove`: runs taken out of a store under their locks
damage           `check_run`: whether a run is still what it was when it was finished
leftovers        what failed and interrupted runs left
remake_command   `remake_command`: the command that makes a run again
"""
