// Reach servers from a static binary, with Go's own resolver and its own threads, and print what came of it as JSON:
//
//	reach NAME TCP-HOST:PORT UDP-HOST:PORT DENIED-HOST:PORT
package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	routines = 50
	requests = 10
)

// word returns what a program sees of an error: the name of its errno where it has one.
func word(err error) string {
	var number syscall.Errno
	switch {
	case err == nil:
		return "done"
	case errors.Is(err, syscall.EACCES):
		return "EACCES"
	case errors.As(err, &number):
		return number.Error()
	}
	return err.Error()
}

// fetch gets a page over a connection of its own, and returns its text.
func fetch(url string) string {
	client := http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get(url)
	if err != nil {
		return word(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return word(err)
	}
	return strings.TrimSpace(string(body))
}

// many gets a page over and over in many goroutines, and returns how often each text came.
func many(url string) map[string]int {
	found := map[string]int{}
	var lock sync.Mutex
	var group sync.WaitGroup
	for i := 0; i < routines; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			for j := 0; j < requests; j++ {
				text := fetch(url)
				lock.Lock()
				found[text]++
				lock.Unlock()
			}
		}()
	}
	group.Wait()
	return found
}

// echo sends a text and returns what comes back.
func echo(network, address, text string) string {
	conn, err := net.DialTimeout(network, address, 10*time.Second)
	if err != nil {
		return word(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err = conn.Write([]byte(text)); err != nil {
		return word(err)
	}
	buffer := make([]byte, len(text))
	if _, err = io.ReadFull(conn, buffer); err != nil {
		return word(err)
	}
	return string(buffer)
}

// unconnected sends a datagram by a name of its own, and returns what comes back.
func unconnected(address, text string) string {
	target, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		return word(err)
	}
	conn, err := net.ListenUDP("udp4", nil)
	if err != nil {
		return word(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err = conn.WriteToUDP([]byte(text), target); err != nil {
		return word(err)
	}
	buffer := make([]byte, 100)
	count, _, err := conn.ReadFromUDP(buffer)
	if err != nil {
		return word(err)
	}
	return string(buffer[:count])
}

func main() {
	name, stream, datagram, denied := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	resolver := net.Resolver{PreferGo: true}
	addresses, err := resolver.LookupHost(context.Background(), name)
	_, refused := net.DialTimeout("tcp", denied, 10*time.Second)
	_, listened := net.Listen("tcp", "0.0.0.0:8080")
	json.NewEncoder(os.Stdout).Encode(map[string]any{
		"addresses":   addresses,
		"lookup":      word(err),
		"many":        many("http://" + name + "/hello"),
		"tcp":         echo("tcp", stream, "over tcp"),
		"udp":         echo("udp", datagram, "over udp"),
		"unconnected": unconnected(datagram, "by its name"),
		"denied":      word(refused),
		"listen":      word(listened),
	})
}
