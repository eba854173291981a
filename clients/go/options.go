package farsock

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/farsock/farsock/clients/go/farsockpb"
)

// keepAlivePeriod is what package net has as its default.
const keepAlivePeriod = 15 * time.Second

func option(name string, enabled bool) *farsockpb.SocketOption {
	return &farsockpb.SocketOption{Name: name, Value: &farsockpb.SocketOption_Enabled{Enabled: enabled}}
}

func optionNumber(name string, number int) *farsockpb.SocketOption {
	return &farsockpb.SocketOption{Name: name, Value: &farsockpb.SocketOption_Number{Number: int32(number)}}
}

// optionTime rounds up to whole seconds, as package net does.
func optionTime(name string, value time.Duration) *farsockpb.SocketOption {
	seconds := (value + time.Second - 1).Truncate(time.Second)
	return &farsockpb.SocketOption{Name: name, Value: &farsockpb.SocketOption_Duration{Duration: durationpb.New(seconds)}}
}

// tcpOptions are those that package net sets on each connection, which accepted ones take from their listener.
func tcpOptions(keepAlive time.Duration) []*farsockpb.SocketOption {
	options := []*farsockpb.SocketOption{option("TCP_NODELAY", true)}
	if keepAlive == 0 {
		keepAlive = keepAlivePeriod
	}
	if keepAlive > 0 {
		options = append(options,
			option("SO_KEEPALIVE", true), optionTime("TCP_KEEPIDLE", keepAlive), optionTime("TCP_KEEPINTVL", keepAlive))
	}
	return options
}

func (h *Host) setOptions(session string, socket *farsockpb.Socket, options []*farsockpb.SocketOption) error {
	ctx, cancel := context.WithTimeout(h.ctx, answerTimeout)
	defer cancel()
	answer, err := h.API.Sockets.SetSocketOptions(ctx, &farsockpb.SetSocketOptionsRequest{
		SessionId: session, SocketId: socket.GetSocketId(), SocketUid: &socket.SocketUid, Options: options,
	})
	if err != nil {
		return h.agentError(err)
	}
	return reported(answer.GetReport())
}
