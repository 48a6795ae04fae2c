package member

import "understudy/replicate"

// gauges are the metrics of the agent's last observation.
var gauges = []struct {
	name, help string
	value      func(replicate.Status) float64
}{
	{
		"understudy_member_ready", "Whether the member is ready.",
		func(s replicate.Status) float64 { return flag(s.Ready) },
	},
	{
		"understudy_member_primary", "Whether the member is the primary.",
		func(s replicate.Status) float64 { return flag(s.Primary) },
	},
	{
		"understudy_paused", "Whether the member is paused.",
		func(s replicate.Status) float64 { return flag(s.Paused != "") },
	},
	{
		"understudy_member_needs_help", "Whether manual action is required; /readyz and the log say which.",
		func(s replicate.Status) float64 { return flag(s.Trouble.Help) },
	},
	{
		"understudy_volume_free_bytes", "Bytes of the member's volume that its server can still use; 0 when not known.",
		func(s replicate.Status) float64 { return float64(s.Facts.Volume.Free) },
	},
	{
		"understudy_volume_size_bytes", "Bytes of the member's volume; 0 when not known.",
		func(s replicate.Status) float64 { return float64(s.Facts.Volume.Size) },
	},
	{
		"understudy_replication_without_source_seconds",
		"Time since anything came from the source, heartbeats included; 0 while something comes.",
		func(s replicate.Status) float64 { return s.Without.Seconds() },
	},
	{
		"understudy_commits_wait_seconds",
		"Time for which commits have waited for a replica without an acknowledgement; 0 when none waits.",
		func(s replicate.Status) float64 { return s.CommitsWait.Seconds() },
	},
	{
		"understudy_replication_receiver_running", "Whether the receiver is connected to the source.",
		func(s replicate.Status) float64 { return flag(s.Facts.Channel != nil && s.Facts.Channel.IO == "Yes") },
	},
	{
		"understudy_replication_applier_running", "Whether the applier runs.",
		func(s replicate.Status) float64 { return flag(s.Facts.Channel != nil && s.Facts.Channel.SQLRunning) },
	},
	{
		"understudy_semi_sync_active",
		"Whether commits wait for a replica (primary), or are acknowledged to the primary (replica).",
		func(s replicate.Status) float64 {
			return flag(s.Facts.SemiSync.Active || s.Facts.SemiSync.Acknowledging)
		},
	},
	{
		"understudy_semi_sync_replicas", "Replicas attached to this member that acknowledge what they receive.",
		func(s replicate.Status) float64 { return float64(s.Facts.SemiSync.Replicas) },
	},
	{
		"understudy_replication_lag_seconds",
		"The replication lag that the server reports; -1 when it is not known, and on the primary.",
		func(s replicate.Status) float64 {
			if s.Facts.Channel == nil || s.Facts.Channel.Lag == nil {
				return -1
			}
			return float64(*s.Facts.Channel.Lag)
		},
	},
}

// flag is a condition as a metric has it.
func flag(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
