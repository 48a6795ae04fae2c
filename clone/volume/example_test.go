package volume_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"understudy/clone/volume"
)

// An empty volume of a replica is to be cloned; init looks, decides and then acts.
func ExampleDecide() {
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	v, err := volume.Open(context.Background(), dir, time.Second, func(string) {})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = v.Close() }()
	facts, err := v.Facts(false, false)
	if err != nil {
		fmt.Println(err)
		return
	}
	verdict, why := volume.Decide(facts)
	fmt.Printf("%s: %s\n", verdict, why)
	// Output: clone: the volume is empty
}
