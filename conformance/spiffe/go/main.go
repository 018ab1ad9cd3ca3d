// A workload as go-spiffe's users write it. Each mode prints what it found; exit code 1 and a reason where it is wrong.
package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Second)
	defer cancel()
	modes := map[string]func(context.Context) error{
		"x509": x509, "bundles": bundles, "jwt": jwt, "mtls": mtls, "watch": watch, "denied": denied,
	}
	if err := modes[os.Args[1]](ctx); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func x509(ctx context.Context) error {
	context, err := workloadapi.FetchX509Context(ctx)
	if err != nil {
		return err
	}
	svid := context.DefaultSVID()
	if _, _, err := x509svid.Verify(svid.Certificates, context.Bundles); err != nil {
		return err
	}
	fmt.Println(svid.ID.String())
	return nil
}

func bundles(ctx context.Context) error {
	roots, err := workloadapi.FetchX509Bundles(ctx)
	if err != nil {
		return err
	}
	keys, err := workloadapi.FetchJWTBundles(ctx)
	if err != nil {
		return err
	}
	for _, b := range roots.Bundles() {
		k, ok := keys.Get(b.TrustDomain())
		n := 0
		if ok {
			n = len(k.JWTAuthorities())
		}
		fmt.Printf("%s %d %d\n", b.TrustDomain().Name(), len(b.X509Authorities()), n)
	}
	return nil
}

func jwt(ctx context.Context) error {
	svid, err := workloadapi.FetchJWTSVID(ctx, jwtsvid.Params{Audience: "payment"})
	if err != nil {
		return err
	}
	keys, err := workloadapi.FetchJWTBundles(ctx)
	if err != nil {
		return err
	}
	own, err := jwtsvid.ParseAndValidate(svid.Marshal(), keys, []string{"payment"})
	if err != nil {
		return err
	}
	theirs, err := workloadapi.ValidateJWTSVID(ctx, svid.Marshal(), "payment")
	if err != nil {
		return err
	}
	if own.ID != theirs.ID {
		return fmt.Errorf("%s is not %s", own.ID, theirs.ID)
	}
	if _, err := workloadapi.ValidateJWTSVID(ctx, svid.Marshal(), "somebody"); status.Code(err) != codes.InvalidArgument {
		return fmt.Errorf("a token for another audience: %v", err)
	}
	fmt.Println(theirs.ID.String())
	return nil
}

// Client and server of mutual TLS, both from a source that follows rotation.
func mtls(ctx context.Context) error {
	source, err := workloadapi.NewX509Source(ctx)
	if err != nil {
		return err
	}
	defer source.Close()
	svid, err := source.GetX509SVID()
	if err != nil {
		return err
	}
	config := tlsconfig.MTLSServerConfig(source, source, tlsconfig.AuthorizeID(svid.ID))
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		return err
	}
	server := http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			id, _ := x509svid.IDFromCert(r.TLS.PeerCertificates[0])
			fmt.Fprint(w, id)
		}),
		ErrorLog: log.New(io.Discard, "", 0),
	}
	go server.Serve(listener)
	ask := func(authorizer tlsconfig.Authorizer) (string, error) {
		client := http.Client{Transport: &http.Transport{
			TLSClientConfig: tlsconfig.MTLSClientConfig(source, source, authorizer),
		}}
		answer, err := client.Get("https://" + listener.Addr().String())
		if err != nil {
			return "", err
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		return string(body), err
	}
	seen, err := ask(tlsconfig.AuthorizeID(svid.ID))
	if err != nil {
		return err
	}
	other := spiffeid.RequireFromString("spiffe://cluster.local/ns/apps/sa/nobody")
	if _, err := ask(tlsconfig.AuthorizeID(other)); err == nil {
		return fmt.Errorf("a server of another identity was believed")
	}
	fmt.Println(seen)
	return nil
}

type watcher struct{ updates chan *workloadapi.X509Context }

func (w watcher) OnX509ContextUpdate(c *workloadapi.X509Context) { w.updates <- c }
func (w watcher) OnX509ContextWatchError(err error)              { fmt.Fprintln(os.Stderr, err) }

// Until the key was replaced and one root alone is left after two.
func watch(ctx context.Context) error {
	w := watcher{make(chan *workloadapi.X509Context, 100)}
	go workloadapi.WatchX509Context(ctx, w)
	first, two := "", false
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case c := <-w.updates:
			svid := c.DefaultSVID()
			bundle, err := c.Bundles.GetX509BundleForTrustDomain(svid.ID.TrustDomain())
			if err != nil {
				return err
			}
			serial := svid.Certificates[0].SerialNumber.Text(16)
			if _, _, err := x509svid.Verify(svid.Certificates, c.Bundles); err != nil {
				return err
			}
			if first == "" {
				first = serial
			}
			roots := len(bundle.X509Authorities())
			fmt.Println(serial, roots)
			two = two || roots == 2
			if two && roots == 1 && serial != first {
				return nil
			}
		}
	}
}

func denied(ctx context.Context) error {
	if _, err := workloadapi.FetchX509Context(ctx); status.Code(err) != codes.PermissionDenied {
		return fmt.Errorf("another's socket: %v", err)
	}
	return nil
}
