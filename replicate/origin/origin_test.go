package origin

import (
	"errors"
	"strings"
	"testing"

	"understudy/replicate/flavor"

	"github.com/google/go-cmp/cmp"
)

func TestFromBinlogInfo(t *testing.T) {
	const uuid = "35f06186-0000-11ef-9c5c-000000000001"
	tests := []struct {
		name   string
		flavor flavor.Flavor
		in     string
		want   Origin
	}{
		{
			"mariadb", flavor.MariaDB, "binlog.000003\t609058321\t0-100-5332\n",
			Origin{Mode: GTID, Of: Donor, File: "binlog.000003", Position: 609058321, GTID: "0-100-5332"},
		},
		{
			"mariadb that logged nothing", flavor.MariaDB, "binlog.000001\t330\t\n",
			Origin{Mode: GTID, Of: Donor, File: "binlog.000001", Position: 330},
		},
		{
			"mariadb with several domains", flavor.MariaDB, "b.000001\t330\t0-100-5,1-100-7\n",
			Origin{Mode: GTID, Of: Donor, File: "b.000001", Position: 330, GTID: "0-100-5,1-100-7"},
		},
		{
			"mysql without gtid", flavor.MySQL, "binlog.000002\t157\n",
			Origin{Mode: Position, Of: Donor, File: "binlog.000002", Position: 157},
		},
		{
			"mysql gtid set over two lines", flavor.MySQL, "binlog.000002\t157\t" + uuid + ":1-7,\n" + uuid + ":9\n",
			Origin{Mode: GTID, Of: Donor, File: "binlog.000002", Position: 157, GTID: uuid + ":1-7," + uuid + ":9"},
		},
		{
			"mysql gtid set with a tag, written with blanks", flavor.MySQL, "binlog.000002\t157\t" + uuid + ":1-7:backup:1-3, 4760eeb2-e6b2-11f1-8cb3-02fc00000001:9\n",
			Origin{Mode: GTID, Of: Donor, File: "binlog.000002", Position: 157, GTID: uuid + ":1-7:backup:1-3,4760eeb2-e6b2-11f1-8cb3-02fc00000001:9"},
		},
		{
			"a file name with a blank", flavor.MySQL, "my log.000002\t157\n",
			Origin{Mode: Position, Of: Donor, File: "my log.000002", Position: 157},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := FromBinlogInfo(tt.flavor, tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestFromSlaveInfo(t *testing.T) {
	tests := []struct {
		name, in string
		want     Origin
	}{
		{
			"mariadb gtid", "SET GLOBAL gtid_slave_pos = '0-100-11945';\nCHANGE MASTER TO master_use_gtid = slave_pos;\n",
			Origin{Mode: GTID, Of: Source, GTID: "0-100-11945"},
		},
		{
			"mariadb position", "CHANGE MASTER TO MASTER_LOG_FILE='binlog.000003', MASTER_LOG_POS=634071043;\n",
			Origin{Mode: Position, Of: Source, File: "binlog.000003", Position: 634071043},
		},
		{
			"xtrabackup gtid", "SET GLOBAL gtid_purged='a:1-3,\nb:1-9';\nCHANGE MASTER TO MASTER_AUTO_POSITION=1;\n",
			Origin{Mode: GTID, Of: Source, GTID: "a:1-3,b:1-9"},
		},
		{
			"xtrabackup 8.4", "CHANGE REPLICATION SOURCE TO SOURCE_LOG_FILE='mysql-bin.000007', SOURCE_LOG_POS=194;\n",
			Origin{Mode: Position, Of: Source, File: "mysql-bin.000007", Position: 194},
		},
		{
			"xtrabackup 8.4 gtid, with a tag, over several lines",
			"SET GLOBAL gtid_purged='35f06186-0000-11ef-9c5c-000000000001:1-3:backup:1-7,\n4760eeb2-e6b2-11f1-8cb3-02fc00000001:1-64';\nCHANGE REPLICATION SOURCE TO SOURCE_AUTO_POSITION=1;\n",
			Origin{Mode: GTID, Of: Source, GTID: "35f06186-0000-11ef-9c5c-000000000001:1-3:backup:1-7,4760eeb2-e6b2-11f1-8cb3-02fc00000001:1-64"},
		},
		{
			"a replica that has received nothing yet", "SET GLOBAL gtid_purged='';\nCHANGE REPLICATION SOURCE TO SOURCE_AUTO_POSITION=1;\n",
			Origin{Mode: GTID, Of: Source},
		},
		{
			"the tutorial's copy, semicolons stripped", "SET GLOBAL gtid_purged='a:1-3'\nCHANGE MASTER TO MASTER_AUTO_POSITION=1\n",
			Origin{Mode: GTID, Of: Source, GTID: "a:1-3"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := FromSlaveInfo(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestMalformed(t *testing.T) {
	for _, in := range []string{
		"", "\n", "binlog.000001", "binlog.000001 154", "\t154", "binlog.000001\tx", strings.Repeat("x", 5000),
	} {
		if o, err := FromBinlogInfo(flavor.MySQL, in); !errors.Is(err, ErrMalformed) || len(err.Error()) > 400 {
			t.Errorf("FromBinlogInfo(%.40q) = %v, %v", in, o, err)
		}
	}
	for _, in := range []string{
		"", "SET GLOBAL gtid_slave_pos = '0-1-2';", "CHANGE MASTER TO MASTER_LOG_FILE='a';",
		"CHANGE MASTER TO MASTER_AUTO_POSITION=1;", // a GTID replica whose set is missing
		"CHANGE MASTER 'east' TO MASTER_LOG_FILE='a', MASTER_LOG_POS=4;",
		"CHANGE MASTER TO MASTER_LOG_FILE='a', MASTER_LOG_POS=4 FOR CHANNEL 'east';",
		"SET GLOBAL gtid_purged='a:1-3';\nCHANGE REPLICATION SOURCE TO SOURCE_AUTO_POSITION=1 FOR CHANNEL 'east';",
		"SET GLOBAL gtid_purged='a:1-3';\nCHANGE REPLICATION SOURCE TO SOURCE_AUTO_POSITION=1;\nCHANGE REPLICATION SOURCE TO SOURCE_AUTO_POSITION=1 FOR CHANNEL 'east';",
		"CHANGE MASTER TO MASTER_LOG_FILE='a', MASTER_LOG_POS=4;\nCHANGE MASTER TO MASTER_LOG_FILE='b', MASTER_LOG_POS=4;",
		"CHANGE MASTER TO MASTER_LOG_FILE='a', MASTER_LOG_POS=99999999999999999999999;",
	} {
		if o, err := FromSlaveInfo(in); !errors.Is(err, ErrMalformed) {
			t.Errorf("FromSlaveInfo(%q) = %v, %v", in, o, err)
		}
	}
}

func TestAsPosition(t *testing.T) {
	o := Origin{Mode: GTID, Of: Donor, GTID: "0-1-2", File: "b.1", Position: 4}
	if p, ok := o.AsPosition(); !ok || p.Mode != Position || p.GTID != "" || p.File != "b.1" {
		t.Errorf("got %+v, %v", p, ok)
	}
	if _, ok := (Origin{Mode: GTID, Of: Source, GTID: "0-1-2"}).AsPosition(); ok {
		t.Error("a GTID without file and position has none")
	}
}

func TestFromBackupInfo(t *testing.T) {
	tests := []struct {
		name string
		f    flavor.Flavor
		text string
		want *Origin
	}{
		{"MySQL, a set on two lines", flavor.MySQL, "lock_time = 0\nbinlog_pos = filename 'binlog.000002', position '195', GTID of the last change 'a:1-5,\nb:1-2'\ninnodb_from_lsn = 0\n", &Origin{Mode: GTID, Of: Donor, GTID: "a:1-5,b:1-2", File: "binlog.000002", Position: 195}},
		{"MySQL without GTIDs", flavor.MySQL, "binlog_pos = filename 'binlog.000002', position '195'\n", &Origin{Mode: Position, Of: Donor, File: "binlog.000002", Position: 195}},
		{"MariaDB, nothing logged", flavor.MariaDB, "binlog_pos = filename 'b.000001', position '320', GTID of the last change ''\n", &Origin{Mode: GTID, Of: Donor, File: "b.000001", Position: 320}},
		{"no binary log", flavor.MariaDB, "tool_name = x\n", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := FromBackupInfo(tt.f, tt.text)
			if d := cmp.Diff(tt.want, got); d != "" || err != nil {
				t.Error(d, err)
			}
		})
	}
}
