// A decision leaves the prompt, and the model finds it again.
//
// PK_ENDPOINT (host:port) and PK_TOKEN say where Pagekeeper is and who asks.
package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pb "pagekeeper.example/quickstart/gen/pagekeeperv1"
)

const (
	decision = "We decided to use PostgreSQL, because the ledger needs transactions."
	question = "Which database did we choose?"
)

var smallTalk = strings.Repeat("The kettle is on, the rain has stopped, and the cat is asleep on the warm side of the keyboard. ", 10)

func main() {
	connection, err := grpc.NewClient(os.Getenv("PK_ENDPOINT"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	check(err)
	defer connection.Close()
	memory := pb.NewMemoryServiceClient(connection)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+os.Getenv("PK_TOKEN"))

	// A request id makes a retry safe: the same id with the same body is done once.
	opened, err := memory.OpenSession(ctx, &pb.OpenSessionRequest{
		RequestId: rand.Text(),
		// The oldest pages leave first and the model alone brings them back, so that this short talk shows both.
		Config: &pb.SessionConfig{
			MaxL0Tokens: 16_000, EvictionPolicy: "lru/1", DemandPaging: pb.DemandPaging_DEMAND_PAGING_MODEL,
		},
	})
	check(err)
	session := opened.Session.SessionId
	remember := func(pages ...*pb.PageInput) *pb.AppendPagesResponse {
		appended, err := memory.AppendPages(ctx, &pb.AppendPagesRequest{RequestId: rand.Text(), SessionId: session, Pages: pages})
		check(err)
		return appended
	}
	appended := remember(says(pb.MessageRole_MESSAGE_ROLE_USER, decision))
	page := appended.Pages[0].PageId
	for range 30 {
		appended = remember(says(pb.MessageRole_MESSAGE_ROLE_USER, smallTalk), says(pb.MessageRole_MESSAGE_ROLE_ASSISTANT, smallTalk))
	}

	// Reads are at least as new as MinRevision. Send prompt.Messages and prompt.ToolsJson to the model.
	ask := &pb.AssemblePromptRequest{SessionId: session, UserInput: question, MinRevision: appended.Revision}
	prompt, err := memory.AssemblePrompt(ctx, ask)
	check(err)
	show(prompt, page)

	// A model that sees no answer in its prompt asks for one, in its provider's format. Hand each answer back to it.
	call := func(id, name string, arguments map[string]any) string {
		argumentsJSON, err := json.Marshal(arguments)
		check(err)
		answered, err := memory.HandleToolCalls(ctx, &pb.HandleToolCallsRequest{
			RequestId:   rand.Text(),
			SessionId:   session,
			Calls:       []*pb.ToolCall{{Id: id, Name: name, ArgumentsJson: string(argumentsJSON)}},
			MinRevision: ask.MinRevision,
		})
		check(err)
		ask.MinRevision = answered.Revision
		fmt.Println(name, answered.Messages[0].Content)
		return answered.Messages[0].Content
	}
	var found struct {
		Results []struct {
			PageID string `json:"page_id"`
		}
	}
	check(json.Unmarshal([]byte(call("1", "search_pages", map[string]any{"query": "decided database PostgreSQL"})), &found))
	call("2", "page_fault", map[string]any{"page_id": found.Results[0].PageID, "target_level": 0})

	prompt, err = memory.AssemblePrompt(ctx, ask)
	check(err)
	show(prompt, page)

	_, err = memory.GetPage(ctx, &pb.GetPageRequest{SessionId: session, PageId: "no-such-page"})
	for _, detail := range status.Convert(err).Details() {
		if why, ok := detail.(*errdetails.ErrorInfo); ok {
			fmt.Println("refused", why.Reason, why.Metadata)
		}
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func says(role pb.MessageRole, text string) *pb.PageInput {
	return &pb.PageInput{Role: role, Content: &pb.PageInput_Text{Text: text}}
}

func show(prompt *pb.AssemblePromptResponse, page string) {
	where := "not in it"
	for _, resident := range prompt.Pages {
		if resident.PageId == page {
			where = fmt.Sprintf("at level %d", resident.Level)
		}
	}
	t := prompt.Tokens
	fmt.Printf("prompt %d of %d tokens: rules %d, context %d, manifest %d, tools %d, input %d; the decision is %s\n",
		t.Total, t.Budget, t.Rules, t.Context, t.Manifest, t.Tools, t.Input, where)
}
