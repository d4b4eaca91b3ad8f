// Look a name up with Go's own resolver, which is in a static program: look_up NAME.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"sort"
	"strings"
)

func main() {
	resolver := net.Resolver{PreferGo: true}
	found, err := resolver.LookupIP(context.Background(), "ip4", os.Args[1])
	if err != nil {
		fmt.Println("error:", strings.ReplaceAll(err.Error(), "\n", " "))
		os.Exit(1)
	}
	texts := []string{}
	for _, each := range found {
		texts = append(texts, each.String())
	}
	sort.Strings(texts)
	fmt.Println(strings.Join(texts, " "))
}
