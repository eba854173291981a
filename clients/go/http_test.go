package farsock_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"

	farsock "github.com/farsock/farsock/clients/go"
)

// A server and a client of net/http, both far: many requests over kept connections, large bodies both ways, and a server that is shut down.
func TestHTTP(t *testing.T) {
	eachFamily(t, func(t *testing.T, host *farsock.Host, anyPort string) {
		listener := door(t, host, anyPort)
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			_, _ = w.Write(body)
		})}
		served := make(chan error, 1)
		go func() { served <- server.Serve(listener) }()
		transport := &http.Transport{DialContext: host.DialContext}
		client := http.Client{Transport: transport}
		url := "http://" + listener.Addr().String()

		var all sync.WaitGroup
		for number := range 8 {
			all.Go(func() {
				for round := range 5 {
					sent := fmt.Appendf(bytes.Repeat([]byte("x"), round*200_000), "%d", number)
					answer, err := client.Post(url, "text/plain", bytes.NewReader(sent))
					if err != nil {
						t.Error(err)
						return
					}
					got, err := io.ReadAll(answer.Body)
					_ = answer.Body.Close()
					if err != nil || !bytes.Equal(got, sent) {
						t.Errorf("%d bytes of %d: %v", len(got), len(sent), err)
					}
				}
			})
		}
		all.Wait()
		transport.CloseIdleConnections()
		if err := server.Shutdown(within(t)); err != nil {
			t.Error(err)
		}
		if err := <-served; err != http.ErrServerClosed {
			t.Error(err)
		}
	})
}
