// An agent for Envoy's ext_authz and ext_proc filters (gRPC), for the
// benchmark: allows everything but paths under /blocked, and counts.
//
//	envoy-agent SOCKET	SIGUSR1 prints {"heads":N}
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authz "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	proc "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	types "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

var heads atomic.Uint64

func blocked(path string) bool {
	heads.Add(1)
	return strings.HasPrefix(path, "/blocked")
}

type checker struct {
	authz.UnimplementedAuthorizationServer
}

func (checker) Check(_ context.Context, r *authz.CheckRequest) (*authz.CheckResponse, error) {
	code := codes.OK
	if blocked(r.GetAttributes().GetRequest().GetHttp().GetPath()) {
		code = codes.PermissionDenied
	}
	return &authz.CheckResponse{Status: &status.Status{Code: int32(code)}}, nil
}

type processor struct {
	proc.UnimplementedExternalProcessorServer
}

func path(h *core.HeaderMap) string {
	for _, f := range h.GetHeaders() {
		if f.GetKey() == ":path" {
			return f.GetValue() + string(f.GetRawValue())
		}
	}
	return ""
}

var allow = &proc.ProcessingResponse{
	Response: &proc.ProcessingResponse_RequestHeaders{
		RequestHeaders: &proc.HeadersResponse{
			Response: &proc.CommonResponse{},
		},
	},
}

var deny = &proc.ProcessingResponse{
	Response: &proc.ProcessingResponse_ImmediateResponse{
		ImmediateResponse: &proc.ImmediateResponse{
			Status: &types.HttpStatus{Code: types.StatusCode_Forbidden},
		},
	},
}

func (processor) Process(s proc.ExternalProcessor_ProcessServer) error {
	for {
		r, err := s.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		answer := allow
		if h := r.GetRequestHeaders(); h != nil && blocked(path(h.GetHeaders())) {
			answer = deny
		}
		if err := s.Send(answer); err != nil {
			return err
		}
	}
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: envoy-agent SOCKET")
	}
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR1)
	go func() {
		for range asked {
			fmt.Printf("{\"heads\":%d}\n", heads.Load())
		}
	}()
	l, err := net.Listen("unix", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	s := grpc.NewServer()
	authz.RegisterAuthorizationServer(s, checker{})
	proc.RegisterExternalProcessorServer(s, processor{})
	log.Fatal(s.Serve(l))
}
