/** A group that workloads join from outside of the files: its service and identity, and whom it alone may call. */
export const VM = `
apiVersion: v1
kind: Service
metadata: { name: vm, namespace: shop }
spec: { selector: { app: vm }, ports: [{ name: http, port: 80, targetPort: http }] }
---
apiVersion: v1
kind: ServiceAccount
metadata: { name: vm, namespace: shop }
---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: { name: vm, namespace: shop }
spec:
  metadata: { labels: { app: vm } }
  template: { ports: { http: 8080 }, serviceAccount: vm }
  probe: { httpGet: { path: /ready, port: 8080 }, periodSeconds: 1, failureThreshold: 1 }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: vm-only, namespace: shop }
spec:
  selector: { matchLabels: { app: back } }
  rules: [{ from: [{ source: { principals: ["*/sa/vm"] } }] }]
`;
