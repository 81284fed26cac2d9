package protocol

import "testing"

func TestARecoveredClusterKeepsItsOriginAndCountsItsRecoveries(t *testing.T) {
	id := "c7f1"
	for want, mark := range []string{"", "aa", "bb"} {
		if want > 0 {
			id = RecoveredID(id, mark)
		}
		if origin, n := Recoveries(id); origin != "c7f1" || n != want {
			t.Errorf("%s: got %s recovered %d times, want c7f1 recovered %d times", id, origin, n, want)
		}
	}
	if id != "c7f1~2.bb" {
		t.Errorf("got %s, want c7f1~2.bb", id)
	}
}
